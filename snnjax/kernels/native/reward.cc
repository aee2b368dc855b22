// Layers that learn by reward from the vote of a deciding layer's strongest neuron. Python has checked all buffers.

#include "competition.h"
#include "outputs.h"
#include "prepared.h"

namespace {

// The strongest neurons after the last step, one of each group of features: when inputs fire does not matter.
class Search {
 public:
  // `open`: 0, or -infinity of features that may not win, [F].
  Search(const Layer& layer, const Quantised& quantised, int64_t groups, const float* open)
      : layer_(layer), potentials_(layer, quantised), groups_(groups), size_(layer.features / groups), open_(open),
        found_(groups), least_(groups), order_(layer.positions()), active_(layer.positions()) {}

  const Neuron* find(const Inputs& inputs) {
    potentials_.begin(inputs);
    potentials_.arrive(0);
    for (int64_t p = 0; p < layer_.positions(); ++p) order_[p] = p, active_[p] = potentials_.reached(p);
    std::stable_sort(order_.begin(), order_.end(), [&](int64_t a, int64_t b) { return active_[a] > active_[b]; });
    std::fill(least_.begin(), least_.end(), kSilent);
    bounded_ = 0;
    for (const int64_t p : order_)
      if (potentials_.upper_bound(active_[p]) >= *std::min_element(least_.begin(), least_.end())) bound(p);
    for (int64_t g = 0; g < groups_; ++g) found_[g] = strongest(g);
    return found_.data();
  }

  const Inputs& inputs() const { return potentials_.inputs(); }

 private:
  void bound(int64_t position) {
    order_[bounded_++] = position;
    float* values = potentials_.look(position);
    for (int64_t f = 0; f < layer_.features; ++f) values[f] += open_[f];
    for (int64_t g = 0; g < groups_; ++g)
      least_[g] = std::max(least_[g], largest(position, g) - potentials_.margin(position));
  }

  float largest(int64_t position, int64_t group) const {
    return ::largest(potentials_.values(position) + group * size_, size_);
  }

  // The likeliest position first, so that few neurons remain.
  Neuron strongest(int64_t group) const {
    Neuron best = {kSilent, -1, 0};
    const int64_t first = group * size_, end = first + size_;
    const auto end_of = order_.begin() + bounded_;
    const int64_t likely = *std::max_element(order_.begin(), end_of, [&](int64_t a, int64_t b) {
      return largest(a, group) < largest(b, group);
    });
    potentials_.strongest(likely, first, end, layer_.time_steps - 1, best);
    for (auto position = order_.begin(); position != end_of; ++position)
      if (*position != likely) potentials_.strongest(*position, first, end, layer_.time_steps - 1, best);
    return best;
  }

  const Layer& layer_;
  Potentials potentials_;
  int64_t groups_, size_;
  const float* open_;
  std::vector<Neuron> found_;
  std::vector<float> least_;  // [groups], a lower bound of the strongest potential
  std::vector<int64_t> order_, active_;  // positions, the fullest first, then those bounded; inputs that fire at each
  int64_t bounded_ = 0;
};

// Rates after a right vote, then after a wrong one, and bounds.
struct Rewarded {
  const float *rates, *bounds;
  bool stabiliser;

  Rule rule(bool right) const {
    const float* rate = rates + (right ? 0 : 2);
    return {rate[0], rate[1], bounds[0], bounds[1], stabiliser};
  }
};

// A deciding layer that votes on one image after the other, and learns from them.
class Deciding {
 public:
  Deciding(const Layer& layer, const Rewarded& rewarded, const float* open, int64_t classes)
      : layer_(layer), rewarded_(rewarded), quantised_(layer, rewarded.bounds[0], rewarded.bounds[1]),
        search_(layer_, quantised_, 1, open), size_(layer.features / classes) {}

  // The class of the strongest neuron, -1 if none is above 0.
  int32_t vote(const Inputs& inputs) {
    won_ = search_.find(inputs)[0];
    return won_.potential > 0 ? won_.feature / size_ : -1;
  }

  // The feature that has voted learns.
  int32_t learn(bool right) {
    const Rule rule = rewarded_.rule(right);
    update(layer_, quantised_, search_.inputs(), won_, layer_.time_steps - 1, rule);
    quantised_.clip(layer_, rule.lower, rule.upper);
    return won_.feature;
  }

 private:
  const Layer& layer_;
  const Rewarded rewarded_;
  Quantised quantised_;
  Search search_;
  int64_t size_;  // of a class
  Neuron won_;
};

// A layer before the deciding one, whose k earliest, strongest neurons of distinct features learn.
class Earlier {
 public:
  Earlier(const Layer& layer, const Rewarded& rewarded, float threshold, int64_t k, int64_t radius, const Pool& pool)
      : layer_(layer), rewarded_(rewarded), quantised_(layer, rewarded.bounds[0], rewarded.bounds[1]),
        competition_(layer_, quantised_, threshold, k, radius), outputs_(layer_, quantised_, threshold, pool, 0),
        out_(outputs_.size()) {}

  // Finds the winners; returns latencies of the pooled neurons, [F, pooled height, width]: 0, or T where silent.
  const uint8_t* forward(const Inputs& inputs) {
    competition_.find(inputs, true);
    outputs_.write(competition_.potentials(), out_.data());
    return out_.data();
  }

  // The winners learn; their features go to `out`, [k].
  void learn(bool right, int32_t* out) {
    ::learn(layer_, quantised_, competition_, rewarded_.rule(right), out);
  }

 private:
  const Layer& layer_;
  const Rewarded rewarded_;
  Quantised quantised_;
  Competition competition_;
  Outputs outputs_;
  std::vector<uint8_t> out_;
};

// Images span[0]..span[1]-1 are voted on, and learned from if their label is not below 0; the votes and features of the
// others are -1.
ffi::Error learn_by_reward(Floats weights, Bytes latencies, Integers labels, Integers span, Floats rates, Floats bounds,
                           Floats open, ffi::Dictionary settings, ffi::Result<Floats> learned,
                           ffi::Result<Integers> vote, ffi::Result<Integers> feature) {
  keep(weights, learned), silence(vote), silence(feature);
  const auto shape = latencies.dimensions();
  const Layer layer(learned->typed_data(), weights, settings, "deciding_", shape[2], shape[3]);
  const Rewarded rewarded = {rates.typed_data(), bounds.typed_data(), *settings.get<bool>("deciding_stabiliser")};
  Deciding deciding(layer, rewarded, open.typed_data(), number(settings, "classes"));
  const int64_t first = std::max(span.typed_data()[0], 0), end = std::min<int64_t>(span.typed_data()[1], shape[0]);
  Prepared prepared(Inputs(layer, 1), layer.inputs(), latencies.typed_data(), first, end);
  for (int64_t at = first; at < end; ++at) {
    const int32_t label = labels.typed_data()[at], voted = deciding.vote(prepared.of(at));
    vote->typed_data()[at] = voted;
    if (voted >= 0 && label >= 0) feature->typed_data()[at] = deciding.learn(voted == label);
  }
  return ffi::Error::Success();
}

// As `learn_by_reward`, with a layer before, whose winners learn from the same vote; `turns` says which of them learns.
ffi::Error learn_deep_by_reward(Floats before, Floats weights, Bytes latencies, Integers labels, Integers span,
                                Integers turns, Floats threshold, Integers radius, Floats earlier_rates,
                                Floats earlier_bounds, Floats rates, Floats bounds, Floats open,
                                ffi::Dictionary settings, ffi::Result<Floats> earlier_learned,
                                ffi::Result<Floats> learned, ffi::Result<Integers> vote, ffi::Result<Integers> winners,
                                ffi::Result<Integers> feature) {
  keep(before, earlier_learned), keep(weights, learned), silence(vote), silence(winners), silence(feature);
  const auto shape = latencies.dimensions();
  const Pool pool(settings);
  const Layer first(earlier_learned->typed_data(), before, settings, "earlier_", shape[2], shape[3]);
  const Layer last(learned->typed_data(), weights, settings, "deciding_", pool.height, pool.width);
  auto rewarded = [&](const Floats& rates, const Floats& bounds, const char* stabiliser) {
    return Rewarded{rates.typed_data(), bounds.typed_data(), *settings.get<bool>(stabiliser)};
  };
  const int64_t k = winners->dimensions()[1];
  Earlier earlier(first, rewarded(earlier_rates, earlier_bounds, "earlier_stabiliser"), threshold.typed_data()[0], k,
                  radius.typed_data()[0], pool);
  Deciding deciding(last, rewarded(rates, bounds, "deciding_stabiliser"), open.typed_data(),
                    number(settings, "classes"));
  const int64_t begin = std::max(span.typed_data()[0], 0), end = std::min<int64_t>(span.typed_data()[1], shape[0]);
  Prepared prepared(Inputs(first, first.time_steps), first.inputs(), latencies.typed_data(), begin, end);
  Inputs between(last, 1);
  for (int64_t at = begin; at < end; ++at) {
    between.read(earlier.forward(prepared.of(at)));
    const int32_t label = labels.typed_data()[at], voted = deciding.vote(between);
    vote->typed_data()[at] = voted;
    if (voted < 0 || label < 0) continue;
    if (turns.typed_data()[0]) earlier.learn(voted == label, winners->typed_data() + at * k);
    if (turns.typed_data()[1]) feature->typed_data()[at] = deciding.learn(voted == label);
  }
  return ffi::Error::Success();
}

// The largest potential of each class, for each of B images; if `winner_only` 0 but for the class of the strongest.
ffi::Error strongest_of_classes(Floats weights, Bytes latencies, ffi::Dictionary settings,
                                ffi::Result<Floats> potential) {
  const auto shape = latencies.dimensions();
  const Layer layer(const_cast<float*>(weights.typed_data()), weights, settings, "deciding_", shape[2], shape[3]);
  const Quantised quantised(layer);
  const int64_t classes = number(settings, "classes");
  const int64_t groups = *settings.get<bool>("winner_only") ? 1 : classes, size = layer.features / classes;
  const std::vector<float> open(layer.features, 0.0f);
  Search search(layer, quantised, groups, open.data());
  std::fill_n(potential->typed_data(), potential->element_count(), 0.0f);
  Prepared prepared(Inputs(layer, 1), layer.inputs(), latencies.typed_data(), 0, shape[0]);
  for (int64_t at = 0; at < shape[0]; ++at) {
    const Neuron* found = search.find(prepared.of(at));
    float* of_class = potential->typed_data() + at * classes;
    for (int64_t g = 0; g < groups; ++g)
      if (found[g].feature >= 0) of_class[found[g].feature / size] = found[g].potential;
  }
  return ffi::Error::Success();
}

// Who fires by the last step, for each of B images: pooled latencies of the last step, or T where silent.
ffi::Error who_fires(Floats weights, Bytes latencies, Floats threshold, ffi::Dictionary settings,
                     ffi::Result<Bytes> fired) {
  const auto shape = latencies.dimensions();
  const Layer layer(const_cast<float*>(weights.typed_data()), weights, settings, "layer_", shape[2], shape[3]);
  const Quantised quantised(layer);
  Potentials potentials(layer, quantised);
  Prepared prepared(Inputs(layer, 1), layer.inputs(), latencies.typed_data(), 0, shape[0]);
  Outputs outputs(layer, quantised, threshold.typed_data()[0], Pool(settings), layer.time_steps - 1);
  for (int64_t at = 0; at < shape[0]; ++at) {
    potentials.begin(prepared.of(at));
    potentials.arrive(0);
    outputs.write(potentials, fired->typed_data() + at * outputs.size());
  }
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(snnjax_learn_by_reward, learn_by_reward);
XLA_FFI_DEFINE_HANDLER_SYMBOL(snnjax_learn_deep_by_reward, learn_deep_by_reward);
XLA_FFI_DEFINE_HANDLER_SYMBOL(snnjax_strongest_of_classes, strongest_of_classes);
XLA_FFI_DEFINE_HANDLER_SYMBOL(snnjax_who_fires, who_fires);
