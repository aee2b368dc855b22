// Fully connected readouts that learn by supervised STDP, one image after the other.
//
// Weights are (F, K) as they are stored: an update goes through the rows of a few neurons, and the potentials of a few
// neurons are added up in the order of the inputs' spikes until one of them crosses its threshold. They are >= 0, so
// that potentials never fall. Latencies are uint8, T where silent. Python has checked all buffers.

#include "prepared.h"

namespace {

constexpr int kRows = 8;  // neurons whose potentials are added up side by side
constexpr float kNever = std::numeric_limits<float>::infinity();

// The inputs of one image that fire, in order of their steps.
struct Inputs {
  struct Step {
    int32_t step, end;  // inputs[..end) have fired after this step
  };
  int64_t size;
  int32_t time_steps;
  std::vector<int32_t> when, fired, inputs;  // when: latencies
  std::vector<Step> steps;

  Inputs(int64_t size, int32_t time_steps) : size(size), time_steps(time_steps), when(size) {}

  void read(const uint8_t* latency) {
    std::copy_n(latency, size, when.data());
    fired.resize(size);
    inputs.resize(size);
    steps.clear();
    int32_t* found = fired.data();
    for (int64_t i = 0; i < size; ++i) {
      *found = i;
      found += latency[i] < time_steps;
    }
    int32_t place[256] = {}, end = 0;
    for (const int32_t* each = fired.data(); each != found; ++each) ++place[latency[*each]];
    for (int32_t step = 0; step < time_steps; ++step) {
      const int32_t count = place[step];
      place[step] = end;
      end += count;
      if (count) steps.push_back({step, end});
    }
    for (const int32_t* each = fired.data(); each != found; ++each) inputs[place[latency[*each]]++] = *each;
    inputs.resize(end);
  }
};

// When a neuron fires: its step, T where silent, its time in 0..1, and its potential then, at last where silent.
struct Spike {
  int32_t neuron, step;
  float time, potential;

  bool precedes(const Spike& other) const {
    if (time != other.time) return time < other.time;
    return potential != other.potential ? potential > other.potential : neuron < other.neuron;
  }
};

struct Layer {
  const float* weights;  // [F, K]
  const float* thresholds;  // [F]
  int64_t inputs;
  int32_t classes, size;  // of a class
  int32_t time_steps;
  bool fractional;

  Spike fired(int32_t neuron, int32_t step, float before, float now, float threshold) const {
    const float late = fractional ? step + (threshold - before) / (now - before) : step;
    return {neuron, step, std::min(late / time_steps, std::nextafter(1.0f, 0.0f)), now};
  }

  Spike silent(int32_t neuron, float potential) const { return {neuron, time_steps, 1.0f, potential}; }
};

// Adds up the potentials of neurons first..first+kCount-1 step by step up to step `last`. Where some exceed `limits`, it
// calls `crossed(step, before, now)` with potentials before and after the step, which may change limits, and stops if
// that returns true. Returns whether it has stopped; `now` has the potentials at last.
template <int kCount, typename Crossed>
bool integrate(const Layer& layer, const Inputs& in, int32_t first, int32_t last, const float* limits, float* now,
               Crossed crossed) {
  const float* row = layer.weights + first * layer.inputs;
  const int64_t stride = layer.inputs;
  const int32_t* input = in.inputs.data();
  float sum[kCount] = {}, before[kCount];
  bool stopped = false;
  for (const auto& [step, end] : in.steps) {
    if (step > last) break;
    for (int r = 0; r < kCount; ++r) before[r] = sum[r];
    for (const int32_t* stop = in.inputs.data() + end; input != stop; ++input) {
      const float* weight = row + *input;
      for (int r = 0; r < kCount; ++r) sum[r] += weight[r * stride];
    }
    bool any = false;
    for (int r = 0; r < kCount; ++r) any |= sum[r] > limits[r];
    if (any && crossed(step, before, sum)) {
      stopped = true;
      break;
    }
  }
  std::copy_n(sum, kCount, now);
  return stopped;
}

template <typename Crossed>
bool integrate(int count, const Layer& layer, const Inputs& in, int32_t first, int32_t last, const float* limits,
               float* now, Crossed crossed) {
  switch (count) {
    case 1: return integrate<1>(layer, in, first, last, limits, now, crossed);
    case 2: return integrate<2>(layer, in, first, last, limits, now, crossed);
    case 3: return integrate<3>(layer, in, first, last, limits, now, crossed);
    case 4: return integrate<4>(layer, in, first, last, limits, now, crossed);
    case 5: return integrate<5>(layer, in, first, last, limits, now, crossed);
    case 6: return integrate<6>(layer, in, first, last, limits, now, crossed);
    case 7: return integrate<7>(layer, in, first, last, limits, now, crossed);
    default: return integrate<8>(layer, in, first, last, limits, now, crossed);
  }
}

// The earliest neuron of one class; later ones are not followed.
Spike earliest(const Layer& layer, const Inputs& in, int32_t group) {
  const int32_t begin = group * layer.size, end = begin + layer.size;
  Spike best = layer.silent(end, -kNever);
  for (int32_t first = begin; first < end; first += kRows) {
    const int count = std::min(kRows, end - first);
    const float* limits = layer.thresholds + first;
    float now[kRows];
    const bool fires = integrate(count, layer, in, first, best.step, limits, now,
                                 [&](int32_t step, const float* before, const float* sum) {
      for (int r = 0; r < count; ++r) {
        if (!(sum[r] > limits[r])) continue;
        const Spike spike = layer.fired(first + r, step, before[r], sum[r], limits[r]);
        if (spike.precedes(best)) best = spike;
      }
      return true;
    });
    for (int r = 0; r < count && !fires && best.step == layer.time_steps; ++r)
      if (const Spike spike = layer.silent(first + r, now[r]); spike.precedes(best)) best = spike;
  }
  return best;
}

// All neurons of one class: spikes at their thresholds, and at thresholds raised by `excess` if that is given.
void all_of(const Layer& layer, const Inputs& in, int32_t group, const float* excess, Spike* spikes, Spike* raised) {
  for (int32_t place = 0; place < layer.size; place += kRows) {
    const int32_t first = group * layer.size + place, count = std::min(kRows, layer.size - place);
    float limits[kRows], higher[kRows], now[kRows];
    bool fired[kRows] = {};
    int left = count;
    for (int r = 0; r < count; ++r) {
      limits[r] = layer.thresholds[first + r];
      higher[r] = limits[r] + (excess ? excess[place + r] : 0.0f);
    }
    auto crossed = [&](int32_t step, const float* before, const float* sum) {
      for (int r = 0; r < count; ++r) {
        if (!(sum[r] > limits[r])) continue;
        if (!fired[r]) {
          spikes[place + r] = layer.fired(first + r, step, before[r], sum[r], limits[r]);
          fired[r] = true;
          limits[r] = higher[r];
          if (!(sum[r] > limits[r])) continue;
        }
        raised[place + r] = layer.fired(first + r, step, before[r], sum[r], limits[r]);
        limits[r] = kNever;
        --left;
      }
      return left == 0;
    };
    integrate(count, layer, in, first, layer.time_steps, limits, now, crossed);
    for (int r = 0; r < count; ++r) {
      if (!fired[r]) spikes[place + r] = layer.silent(first + r, now[r]);
      if (limits[r] < kNever) raised[place + r] = layer.silent(first + r, now[r]);
    }
  }
}

// w += gain of inputs up to `step`, loss of the others, clipped to the bounds. Returns the sum.
float update(float* row, const int32_t* latency, int64_t size, int32_t step, float gain, float loss, float lower,
             float upper) {
  Lanes sums[2] = {};
  const Lanes causal = Lanes{} + gain, other = Lanes{} + loss, least = Lanes{} + lower, most = Lanes{} + upper;
  const Steps last = Steps{} + step;
  int64_t i = 0;
  auto next = [&](Lanes& sum) {
    Lanes& weight = *reinterpret_cast<Lanes*>(row + i);
    const Lanes moved = weight + (*reinterpret_cast<const Steps*>(latency + i) <= last ? causal : other);
    const Lanes above = moved > least ? moved : least;
    weight = above < most ? above : most;
    sum += weight;
    i += kLanes;
  };
  while (i + 2 * kLanes <= size) next(sums[0]), next(sums[1]);
  const Lanes sum = sums[0] + sums[1];
  float total = 0;
  for (int64_t lane = 0; lane < kLanes; ++lane) total += sum[lane];
  for (; i < size; ++i) {
    row[i] = std::min(std::max(row[i] + (latency[i] <= step ? gain : loss), lower), upper);
    total += row[i];
  }
  return total;
}

// w *= factor, clipped to the bounds.
void scale(float* row, int64_t size, float factor, float lower, float upper) {
  for (int64_t i = 0; i < size; ++i) row[i] = std::min(std::max(row[i] * factor, lower), upper);
}

// What learning depends on: a+, a-, gap, the rate of thresholds, and the bounds of weights.
struct Numbers {
  float plus, minus, gap, rate, lower, upper;
};

// How neurons learn.
struct Rule {
  Numbers numbers;
  int32_t others;  // non-target neurons of a class
  bool competition, one_sided, normalise, fallback;
};

// What one image leaves: of the neurons that learn, of the thresholds of its class, and the decision.
struct Found {
  int32_t* neuron;
  float *time, *error, *threshold;
};

class Learning {
 public:
  Learning(const Layer& layer, const Rule& rule, float* weights, float* excess, const float* sums)
      : layer_(layer), rule_(rule), weights_(weights), excess_(excess), sums_(sums),
        spikes_(layer.size), raised_(layer.size) {
    count_ = rule.competition ? layer.classes : layer.classes * layer.size;
    const int32_t targets = layer.size - rule.others;
    competitors_ = rule.competition && targets > 1 ? targets : 0;
  }

  int32_t count() const { return count_; }
  int32_t competitors() const { return competitors_; }

  // Learns from one image of class `label`, of nothing if that is -1; returns the decision.
  int32_t image(const Inputs& inputs, int32_t label, const Found& found) {
    const bool learns = label >= 0 && !inputs.steps.empty();
    Spike best = layer_.silent(0, 0.0f);
    group_.clear();
    for (int32_t at = 0; at < layer_.classes; ++at) {
      const Spike first = of_class(inputs, at, learns && at == label);
      if (at == 0 || first.precedes(best)) best = first;
    }
    if (learns) learn(inputs, label, found);
    const bool decides = best.time < 1 || (rule_.fallback && best.potential > 0);
    return decides ? best.neuron / layer_.size : -1;
  }

 private:
  // Follows one class; `own`: that of the label. Returns its earliest neuron, and adds those that learn to `group_`.
  Spike of_class(const Inputs& inputs, int32_t at, bool own) {
    if (rule_.competition && !own) {
      group_.push_back(earliest(layer_, inputs, at));
      return group_.back();
    }
    const int32_t first = at * layer_.size;
    const bool balances = own && competitors_;
    all_of(layer_, inputs, at, balances ? excess_ + first : nullptr, spikes_.data(), raised_.data());
    auto of = [](const Spike* begin, const Spike* end) {
      return *std::min_element(begin, end, [](const Spike& a, const Spike& b) { return a.precedes(b); });
    };
    const Spike *spikes = spikes_.data(), *raised = raised_.data();
    const Spike winner = of(spikes, spikes + layer_.size);
    if (balances) {
      const Spike target = of(raised + rule_.others, raised + layer_.size);
      balance(first + rule_.others, target.neuron);
      std::copy(raised + rule_.others, raised + layer_.size, spikes_.begin() + rule_.others);
    }
    if (rule_.competition) group_.push_back(of(spikes, spikes + layer_.size));
    else group_.insert(group_.end(), spikes_.begin(), spikes_.end());
    return winner;
  }

  void balance(int32_t first, int32_t winner) {
    const float rise = rule_.numbers.rate * (float(competitors_ - 1) / competitors_);
    const float fall = rule_.numbers.rate * (1.0f / competitors_);
    for (int32_t j = first; j < first + competitors_; ++j)
      excess_[j] = std::max(j == winner ? excess_[j] + rise : excess_[j] - fall, 0.0f);
  }

  void learn(const Inputs& inputs, int32_t label, const Found& found) {
    const Numbers& numbers = rule_.numbers;
    const float count = count_, own = count_ / layer_.classes;
    float sum = 0;
    int32_t fired = 0;
    for (const Spike& each : group_)
      if (each.time < 1) sum += each.time, ++fired;
    const float latest = 1 - numbers.gap * own / count;
    const float base = fired ? std::min(sum / fired, latest) : latest;
    for (int32_t i = 0; i < count_; ++i) {
      const auto& [neuron, step, time, potential] = group_[i];
      const bool target = neuron / layer_.size == label && neuron % layer_.size >= rule_.others;
      float desired = target ? base - numbers.gap * (count - own) / count : base + numbers.gap * own / count;
      if (rule_.one_sided) desired = target ? std::min(time, desired) : std::max(time, desired);
      found.neuron[i] = neuron;
      found.time[i] = time;
      found.error[i] = time - desired;
      move(inputs, neuron, step, time - desired);
    }
    const int32_t first = label * layer_.size + rule_.others;
    for (int32_t j = 0; j < competitors_; ++j) found.threshold[j] = layer_.thresholds[first + j] + excess_[first + j];
  }

  void move(const Inputs& inputs, int32_t neuron, int32_t step, float error) {
    const Numbers& numbers = rule_.numbers;
    const float gain = error * numbers.plus, loss = error * numbers.minus;
    float* row = weights_ + neuron * layer_.inputs;
    const float total =
        update(row, inputs.when.data(), layer_.inputs, step, gain, loss, numbers.lower, numbers.upper);
    if (rule_.normalise && total > 0) scale(row, layer_.inputs, sums_[neuron] / total, numbers.lower, numbers.upper);
  }

  const Layer layer_;
  const Rule rule_;
  float *weights_, *excess_;
  const float* sums_;
  std::vector<Spike> spikes_, raised_, group_;
  int32_t count_, competitors_;
};

Layer layer_of(const Floats& weights, const Floats& thresholds, const ffi::Dictionary& settings) {
  const int64_t features = thresholds.element_count();
  const int32_t classes = number(settings, "classes"), steps = number(settings, "steps");
  return {weights.typed_data(), thresholds.typed_data(), int64_t(weights.element_count()) / features, classes,
          int32_t(features / classes), steps, settings.get<bool>("fractional").value()};
}

// Images span[0]..span[1]-1 are learned; the results of the others are 0, their labels and neurons -1.
ffi::Error learn_readout(Floats weights, Floats excess, Bytes latencies, Integers labels, Integers span,
                         Floats thresholds, Floats sums, Floats numbers, ffi::Dictionary settings,
                         ffi::Result<Floats> learned, ffi::Result<Floats> raised, ffi::Result<Integers> decision,
                         ffi::Result<Integers> neuron, ffi::Result<Floats> time, ffi::Result<Floats> error,
                         ffi::Result<Floats> threshold, ffi::Result<Integers> label) {
  keep(weights, learned), keep(excess, raised);
  auto clear = [](auto& result) { std::memset(result->untyped_data(), 0, result->size_bytes()); };
  clear(decision), clear(time), clear(error), clear(threshold);
  silence(neuron), silence(label);
  Layer layer = layer_of(weights, thresholds, settings);
  layer.weights = learned->typed_data();
  auto flag = [&](const char* name) { return settings.get<bool>(name).value(); };
  const float* given = numbers.typed_data();
  const Numbers each = {given[0], given[1], given[2], given[3], given[4], given[5]};
  const Rule rule = {each, int32_t(number(settings, "non_targets")), flag("competition"), flag("one_sided"),
                     flag("normalise"), flag("fallback")};
  Learning learning(layer, rule, learned->typed_data(), raised->typed_data(), sums.typed_data());
  const int32_t count = learning.count(), competitors = learning.competitors();
  const int64_t first = span.typed_data()[0], end = span.typed_data()[1];
  Prepared prepared(Inputs(layer.inputs, layer.time_steps), layer.inputs, latencies.typed_data(), first, end);
  for (int64_t at = first; at < end; ++at) {
    const Found found = {neuron->typed_data() + at * count, time->typed_data() + at * count,
                         error->typed_data() + at * count, threshold->typed_data() + at * competitors};
    decision->typed_data()[at] = learning.image(prepared.of(at), labels.typed_data()[at], found);
    label->typed_data()[at] = count && found.neuron[0] >= 0 ? labels.typed_data()[at] : -1;
  }
  return ffi::Error::Success();
}

// The earliest neuron of each class, for each of B images.
ffi::Error earliest_of_classes(Floats weights, Bytes latencies, Floats thresholds, ffi::Dictionary settings,
                               ffi::Result<Bytes> step, ffi::Result<Floats> potential, ffi::Result<Floats> time) {
  const Layer layer = layer_of(weights, thresholds, settings);
  const int64_t end = latencies.dimensions()[0];
  Prepared prepared(Inputs(layer.inputs, layer.time_steps), layer.inputs, latencies.typed_data(), 0, end);
  for (int64_t at = 0; at < end; ++at) {
    const Inputs& inputs = prepared.of(at);
    for (int64_t group = 0; group < layer.classes; ++group) {
      const Spike first = earliest(layer, inputs, group);
      const int64_t place = at * layer.classes + group;
      step->typed_data()[place] = first.step;
      potential->typed_data()[place] = first.potential;
      time->typed_data()[place] = first.time;
    }
  }
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(snnjax_learn_readout, learn_readout);
XLA_FFI_DEFINE_HANDLER_SYMBOL(snnjax_earliest_of_classes, earliest_of_classes);
