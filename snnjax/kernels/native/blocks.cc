// Layers that learn by STDP, or by reward from the vote of a deciding layer's strongest neuron: whole blocks of images in
// one call. Python has checked all buffers.

#include "competition.h"
#include "prepared.h"

namespace {

// Images span[0]..span[1]-1 are learned from, each with rates of its own; features of the others are -1.
ffi::Error learn_by_stdp(Floats weights, Bytes latencies, Integers span, Floats threshold, Integers radius,
                         Floats rates, Floats bounds, ffi::Dictionary settings, ffi::Result<Floats> learned,
                         ffi::Result<Integers> winners) {
  keep(weights, learned), silence(winners);
  const auto shape = latencies.dimensions();
  const int64_t k = winners->dimensions()[1];
  const bool stabiliser = flag(settings, "stabiliser");
  const float lower = bounds.typed_data()[0], upper = bounds.typed_data()[1];
  const IntegerLayer layer(learned->typed_data(), weights, settings, "layer", shape[2], shape[3]);
  Quantised quantised(layer, lower, upper);
  Competition competition(layer, quantised, threshold.typed_data()[0], k, radius.typed_data()[0]);
  auto learn_from = [&](int64_t image, const Inputs& inputs) {
    const float* rate = rates.typed_data() + 2 * image;
    competition.find(inputs, false);
    learn(layer, quantised, competition, {rate[0], rate[1], lower, upper, stabiliser},
          winners->typed_data() + image * k);
  };
  each_image(Inputs(layer, layer.time_steps), latencies, span.typed_data()[0], span.typed_data()[1], learn_from);
  return ffi::Error::Success();
}

// The strongest neurons after the last step, one of each group of features: when inputs fire does not matter.
class Search {
 public:
  // `open`: 0, or -infinity of features that may not win, [F].
  Search(const IntegerLayer& layer, const Quantised& quantised, int64_t groups, const float* open)
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

  const IntegerLayer& layer_;
  Potentials potentials_;
  int64_t groups_, size_;
  const float* open_;
  std::vector<Neuron> found_;
  std::vector<float> least_;  // [groups], a lower bound of the strongest potential
  std::vector<int64_t> order_, active_;  // positions, the fullest first, then those bounded; inputs that fire at each
  int64_t bounded_ = 0;
};

// The pooled outputs of a layer where neurons above a threshold fire.
class Outputs {
 public:
  // `when`: the latency of neurons that fire.
  Outputs(const IntegerLayer& layer, const Quantised& quantised, float threshold, const Pool& pool, int32_t when)
      : layer_(layer), pool_(pool), threshold_(threshold), when_(when), lower_(quantised.stride),
        upper_(quantised.stride) {}

  int64_t size() const { return layer_.features * pool_.height * pool_.width; }

  // Writes latencies [F, pooled height, width], T where silent.
  void write(Potentials& potentials, uint8_t* out) {
    const int64_t cells = pool_.height * pool_.width;
    std::fill_n(out, size(), layer_.time_steps);
    for (int64_t cell = 0; cell < cells; ++cell) {
      bound(potentials, cell);
      for (int64_t first = 0; first < layer_.features; first += kLanes) {
        auto lanes = [&](const std::vector<float>& values) { return *reinterpret_cast<const Lanes*>(&values[first]); };
        const Steps sure = lanes(lower_) > threshold_, possible = lanes(upper_) > threshold_;
        auto fire = [&](int64_t lane) { out[(first + lane) * cells + cell] = when_; };
        each_lane(sure, fire);
        each_lane(possible & ~sure, [&](int64_t lane) {
          if (exceeds(potentials, cell, first + lane)) fire(lane);
        });
      }
    }
  }

 private:
  // How large the largest potential in a cell is, at least and at most.
  void bound(Potentials& potentials, int64_t cell) {
    std::fill(lower_.begin(), lower_.end(), kSilent);
    std::fill(upper_.begin(), upper_.end(), kSilent);
    pool_.in(cell, layer_.out_height, layer_.out_width, [&](int64_t p) {
      if (potentials.ceiling(p) > threshold_) potentials.look(p);
      if (!(potentials.ceiling(p) > threshold_)) return;
      const float *values = potentials.values(p), margin = potentials.margin(p);
      for (int64_t f = 0; f < layer_.features; ++f) {
        lower_[f] = std::max(lower_[f], values[f] - margin);
        upper_[f] = std::max(upper_[f], values[f] + margin);
      }
    });
  }

  // Whether any neuron of a cell exceeds the threshold.
  bool exceeds(const Potentials& potentials, int64_t cell, int64_t feature) const {
    bool any = false;
    pool_.in(cell, layer_.out_height, layer_.out_width, [&](int64_t p) {
      if (!any && potentials.ceiling(p) > threshold_ && potentials.values(p)[feature] + potentials.margin(p) > threshold_)
        any = potentials.exact(feature, p, layer_.time_steps - 1) > threshold_;
    });
    return any;
  }

  const IntegerLayer& layer_;
  const Pool pool_;
  float threshold_;
  int32_t when_;
  std::vector<float> lower_, upper_;  // [stride]
};

// A layer that learns by reward: its rates after a right vote, then after a wrong one, and bounds.
struct Rewarded {
  const IntegerLayer layer;
  const float *rates, *bounds;
  bool stabiliser;
  Quantised quantised{layer, bounds[0], bounds[1]};

  Rule rule(bool right) const {
    const float* rate = rates + (right ? 0 : 2);
    return {rate[0], rate[1], bounds[0], bounds[1], stabiliser};
  }
};

// The vote of a deciding layer on one image after the other, and its learning from that.
struct Deciding {
  Rewarded& rewarded;
  const float* open;
  int64_t classes;
  Search search{rewarded.layer, rewarded.quantised, 1, open};
  Neuron won{};

  // The class of the strongest neuron, -1 if none is above 0.
  int32_t vote(const Inputs& inputs) {
    won = search.find(inputs)[0];
    return won.potential > 0 ? won.feature / (rewarded.layer.features / classes) : -1;
  }

  // The feature that has voted learns.
  int32_t learn(bool right) {
    const Rule rule = rewarded.rule(right);
    update(rewarded.layer, rewarded.quantised, search.inputs(), won, rewarded.layer.time_steps - 1, rule);
    rewarded.quantised.clip(rewarded.layer, rule.lower, rule.upper);
    return won.feature;
  }
};

// Images span[0]..span[1]-1 are voted on, and learned from if their label is not below 0; the votes and features of the
// others are -1.
ffi::Error learn_by_reward(Floats weights, Bytes latencies, Integers labels, Integers span, Floats rates, Floats bounds,
                           Floats open, ffi::Dictionary settings, ffi::Result<Floats> learned,
                           ffi::Result<Integers> vote, ffi::Result<Integers> feature) {
  keep(weights, learned), silence(vote), silence(feature);
  const auto shape = latencies.dimensions();
  Rewarded layer{{learned->typed_data(), weights, settings, "deciding", shape[2], shape[3]}, rates.typed_data(),
                 bounds.typed_data(), flag(settings, "deciding_stabiliser")};
  Deciding deciding{layer, open.typed_data(), number(settings, "classes")};
  auto learn_from = [&](int64_t image, const Inputs& inputs) {
    const int32_t label = labels.typed_data()[image], voted = deciding.vote(inputs);
    vote->typed_data()[image] = voted;
    if (voted >= 0 && label >= 0) feature->typed_data()[image] = deciding.learn(voted == label);
  };
  each_image(Inputs(layer.layer, 1), latencies, span.typed_data()[0], span.typed_data()[1], learn_from);
  return ffi::Error::Success();
}

// As `learn_by_reward`, with a layer before, whose k earliest, strongest neurons of distinct features learn from the
// same vote; `turns` says which of them learns.
ffi::Error learn_deep_by_reward(Floats before, Floats weights, Bytes latencies, Integers labels, Integers span,
                                Integers turns, Floats threshold, Integers radius, Floats earlier_rates,
                                Floats earlier_bounds, Floats rates, Floats bounds, Floats open,
                                ffi::Dictionary settings, ffi::Result<Floats> earlier_learned,
                                ffi::Result<Floats> learned, ffi::Result<Integers> vote, ffi::Result<Integers> winners,
                                ffi::Result<Integers> feature) {
  keep(before, earlier_learned), keep(weights, learned), silence(vote), silence(winners), silence(feature);
  const auto shape = latencies.dimensions();
  const Pool pool = pool_of(settings);
  Rewarded first{{earlier_learned->typed_data(), before, settings, "earlier", shape[2], shape[3]},
                 earlier_rates.typed_data(), earlier_bounds.typed_data(), flag(settings, "earlier_stabiliser")};
  Rewarded last{{learned->typed_data(), weights, settings, "deciding", pool.height, pool.width}, rates.typed_data(),
                bounds.typed_data(), flag(settings, "deciding_stabiliser")};
  const float limit = threshold.typed_data()[0];
  const int64_t k = winners->dimensions()[1];
  Competition competition(first.layer, first.quantised, limit, k, radius.typed_data()[0]);
  Outputs outputs(first.layer, first.quantised, limit, pool, 0);
  std::vector<uint8_t> pooled(outputs.size());
  Inputs between(last.layer, 1);
  Deciding deciding{last, open.typed_data(), number(settings, "classes")};
  auto learn_from = [&](int64_t image, const Inputs& inputs) {
    competition.find(inputs, true);
    outputs.write(competition.potentials(), pooled.data());
    between.read(pooled.data());
    const int32_t label = labels.typed_data()[image], voted = deciding.vote(between);
    vote->typed_data()[image] = voted;
    if (voted < 0 || label < 0) return;
    const Rule rule = first.rule(voted == label);
    if (turns.typed_data()[0])
      learn(first.layer, first.quantised, competition, rule, winners->typed_data() + image * k);
    if (turns.typed_data()[1]) feature->typed_data()[image] = deciding.learn(voted == label);
  };
  const Inputs inputs(first.layer, first.layer.time_steps);
  each_image(inputs, latencies, span.typed_data()[0], span.typed_data()[1], learn_from);
  return ffi::Error::Success();
}

// The largest potential of each class, for each of B images; if `winner_only` 0 but for the class of the strongest.
ffi::Error strongest_of_classes(Floats weights, Bytes latencies, ffi::Dictionary settings,
                                ffi::Result<Floats> potential) {
  const auto shape = latencies.dimensions();
  const IntegerLayer layer(const_cast<float*>(weights.typed_data()), weights, settings, "layer", shape[2], shape[3]);
  const Quantised quantised(layer);
  const int64_t classes = number(settings, "classes");
  const int64_t groups = flag(settings, "winner_only") ? 1 : classes, size = layer.features / classes;
  const std::vector<float> open(layer.features, 0.0f);
  Search search(layer, quantised, groups, open.data());
  std::fill_n(potential->typed_data(), potential->element_count(), 0.0f);
  each_image(Inputs(layer, 1), latencies, 0, shape[0], [&](int64_t image, const Inputs& inputs) {
    const Neuron* strongest = search.find(inputs);
    float* of_class = potential->typed_data() + image * classes;
    for (int64_t g = 0; g < groups; ++g)
      if (strongest[g].feature >= 0) of_class[strongest[g].feature / size] = strongest[g].potential;
  });
  return ffi::Error::Success();
}

// Who fires by the last step, for each of B images: pooled latencies of the last step, or T where silent.
ffi::Error who_fires(Floats weights, Bytes latencies, Floats threshold, ffi::Dictionary settings,
                     ffi::Result<Bytes> fired) {
  const auto shape = latencies.dimensions();
  const IntegerLayer layer(const_cast<float*>(weights.typed_data()), weights, settings, "layer", shape[2], shape[3]);
  const Quantised quantised(layer);
  Potentials potentials(layer, quantised);
  Outputs outputs(layer, quantised, threshold.typed_data()[0], pool_of(settings), layer.time_steps - 1);
  each_image(Inputs(layer, 1), latencies, 0, shape[0], [&](int64_t image, const Inputs& inputs) {
    potentials.begin(inputs);
    potentials.arrive(0);
    outputs.write(potentials, fired->typed_data() + image * outputs.size());
  });
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(snnjax_learn_by_stdp, learn_by_stdp);
XLA_FFI_DEFINE_HANDLER_SYMBOL(snnjax_learn_by_reward, learn_by_reward);
XLA_FFI_DEFINE_HANDLER_SYMBOL(snnjax_learn_deep_by_reward, learn_deep_by_reward);
XLA_FFI_DEFINE_HANDLER_SYMBOL(snnjax_strongest_of_classes, strongest_of_classes);
XLA_FFI_DEFINE_HANDLER_SYMBOL(snnjax_who_fires, who_fires);
