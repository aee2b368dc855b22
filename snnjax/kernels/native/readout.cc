// Fully connected readouts that learn by supervised STDP, one image after the other.
//
// Weights are (F, K) as they are stored: an update goes through the rows of a few neurons. Python has checked all
// buffers.

#include "firing.h"
#include "prepared.h"
#include "shared.h"

namespace {

constexpr int32_t kFew = 16;  // fewer images are not worth another thread

// w += gain of inputs up to `step`, loss of the others, clipped to the bounds. Returns the sum.
float update(float* row, const uint8_t* latency, int64_t size, int32_t step, float gain, float loss, float lower,
             float upper) {
  Lanes sums[2] = {};
  const Lanes causal = Lanes{} + gain, other = Lanes{} + loss, least = Lanes{} + lower, most = Lanes{} + upper;
  const Steps last = Steps{} + step;
  int64_t i = 0;
  auto next = [&](Lanes& sum) {
    Lanes& weight = *reinterpret_cast<Lanes*>(row + i);
    const Lanes moved = weight + (steps_of(latency + i) <= last ? causal : other);
    const Lanes above = moved > least ? moved : least;
    weight = above < most ? above : most;
    sum += weight;
    i += kLanes;
  };
  while (i + 2 * kLanes <= size) next(sums[0]), next(sums[1]);
  float total = sum_of(sums[0] + sums[1]);
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

// The numbers of a rule: a+, a-, gap, the rate of thresholds, and the bounds of weights.
struct Numbers {
  float plus, minus, gap, rate, lower, upper;
};

// How neurons learn.
struct Rule {
  Numbers numbers;
  int32_t others;  // non-target neurons of a class
  bool competition, one_sided, normalise, fallback;
};

// The results of images: of each the n neurons that learn, the m thresholds of its class, the decision and the label.
struct Results {
  int32_t *decision, *neuron, *label;
  float *time, *error, *threshold;
};

// Learns image after image. Two cores share the classes: at each image, the neurons of a class that have learned from
// the one before move first, then all of the class are followed, while their weights are at hand.
class Learning {
 public:
  Learning(const DenseLayer& layer, const Rule& rule, float* weights, float* excess, const float* sums, bool alone)
      : layer_(layer), rule_(rule), weights_(weights), excess_(excess), sums_(sums),
        per_class_(rule.competition ? 1 : layer.size), count_(layer.classes * per_class_),
        competitors_(rule.competition && layer.size - rule.others > 1 ? layer.size - rule.others : 0),
        inputs_(3, Inputs(layer.inputs, layer.time_steps)), spikes_(layer.classes * layer.size), raised_(spikes_),
        first_(layer.classes), group_(count_), errors_(count_),
        tasks_([this](int32_t task) { perform(task); }, alone) {}

  // Learns from images first..end-1, nothing where `labels` are -1.
  void images(const uint8_t* latencies, const int32_t* labels, int64_t first, int64_t end, const Results& results) {
    if (first >= end) return;
    latencies_ = latencies, end_ = end, now_ = first - 1, moves_ = false;
    read();
    for (now_ = first; now_ < end; ++now_) {
      label_ = labels[now_];
      learns_ = label_ >= 0 && !inputs_of(now_).steps.empty();
      tasks_.run(layer_.classes + (now_ + 1 < end));
      results.decision[now_] = decision();
      results.label[now_] = learns_ ? label_ : -1;
      if (learns_) learn(results);
      moves_ = learns_;
    }
    tasks_.run(layer_.classes);
  }

 private:
  Inputs& inputs_of(int64_t image) { return inputs_[image % 3]; }

  // The inputs of the next image.
  void read() { inputs_of(now_ + 1).read(latencies_ + (now_ + 1) * layer_.inputs); }

  void perform(int32_t task) {
    if (task == layer_.classes) return read();
    for (int32_t i = task * per_class_; moves_ && i < (task + 1) * per_class_; ++i)
      move(inputs_of(now_ - 1), group_[i], errors_[i]);
    if (now_ < end_) follow(inputs_of(now_), task);
  }

  // Finds the earliest neuron of a class, and the neurons that learn.
  void follow(const Inputs& inputs, int32_t group) {
    const bool labelled = learns_ && group == label_;
    if (rule_.competition && !labelled) {
      group_[group] = first_[group] = earliest(layer_, inputs, group);
      return;
    }
    const int32_t first = group * layer_.size, target = first + rule_.others, end = first + layer_.size;
    const bool balances = labelled && competitors_;
    all_of(layer_, inputs, group, balances ? excess_ + first : nullptr, &spikes_[first], &raised_[first]);
    auto of = [](const std::vector<Spike>& spikes, int32_t begin, int32_t end) {
      return *std::min_element(spikes.begin() + begin, spikes.begin() + end,
                               [](const Spike& a, const Spike& b) { return a.precedes(b); });
    };
    first_[group] = of(spikes_, first, end);
    if (balances) {
      balance(target, of(raised_, target, end).neuron);
      std::copy(raised_.begin() + target, raised_.begin() + end, spikes_.begin() + target);
    }
    if (rule_.competition) group_[group] = of(spikes_, first, end);
    else std::copy_n(spikes_.begin() + first, layer_.size, group_.begin() + first);
  }

  void balance(int32_t first, int32_t winner) {
    const float rise = rule_.numbers.rate * (float(competitors_ - 1) / competitors_);
    const float fall = rule_.numbers.rate * (1.0f / competitors_);
    for (int32_t j = first; j < first + competitors_; ++j)
      excess_[j] = std::max(j == winner ? excess_[j] + rise : excess_[j] - fall, 0.0f);
  }

  // The class of the earliest neuron, -1 where none counts.
  int32_t decision() const {
    const Spike* best = &first_[0];
    for (const Spike& spike : first_)
      if (spike.precedes(*best)) best = &spike;
    const bool decides = best->time < 1 || (rule_.fallback && best->potential > 0);
    return decides ? best->neuron / layer_.size : -1;
  }

  // Finds the errors of the neurons that learn from this image.
  void learn(const Results& results) {
    const Numbers& numbers = rule_.numbers;
    const float count = count_, per_class = per_class_;
    float sum = 0;
    int32_t fired = 0;
    for (const Spike& spike : group_)
      if (spike.time < 1) sum += spike.time, ++fired;
    const float latest = 1 - numbers.gap * per_class / count;
    const float base = fired ? std::min(sum / fired, latest) : latest;
    for (int32_t i = 0; i < count_; ++i) {
      const auto& [neuron, step, time, potential] = group_[i];
      const bool target = neuron / layer_.size == label_ && neuron % layer_.size >= rule_.others;
      float desired =
          target ? base - numbers.gap * (count - per_class) / count : base + numbers.gap * per_class / count;
      if (rule_.one_sided) desired = target ? std::min(time, desired) : std::max(time, desired);
      errors_[i] = time - desired;
      const int64_t place = now_ * count_ + i;
      results.neuron[place] = neuron, results.time[place] = time, results.error[place] = errors_[i];
    }
    const int32_t first = label_ * layer_.size + rule_.others;
    for (int32_t j = 0; j < competitors_; ++j)
      results.threshold[now_ * competitors_ + j] = layer_.thresholds[first + j] + excess_[first + j];
  }

  void move(const Inputs& inputs, const Spike& spike, float error) {
    const Numbers& numbers = rule_.numbers;
    const float gain = error * numbers.plus, loss = error * numbers.minus;
    float* row = weights_ + spike.neuron * layer_.inputs;
    const float total =
        update(row, inputs.when, layer_.inputs, spike.step, gain, loss, numbers.lower, numbers.upper);
    if (rule_.normalise && total > 0)
      scale(row, layer_.inputs, sums_[spike.neuron] / total, numbers.lower, numbers.upper);
  }

  const DenseLayer layer_;
  const Rule rule_;
  float *weights_, *excess_;
  const float* sums_;
  const int32_t per_class_, count_, competitors_;  // learning neurons, of a class and in all; with training thresholds
  const uint8_t* latencies_ = nullptr;
  int64_t now_ = 0, end_ = 0;
  int32_t label_ = -1;
  bool learns_ = false, moves_ = false;  // from this image, from the one before
  std::vector<Inputs> inputs_;
  std::vector<Spike> spikes_, raised_, first_, group_;  // of all neurons; the earliest of classes; those that learn
  std::vector<float> errors_;
  SharedTasks tasks_;
};

DenseLayer layer_of(const Floats& weights, const Floats& thresholds, const float* sums,
                    const ffi::Dictionary& settings) {
  const int64_t features = thresholds.element_count();
  const int64_t inputs = int64_t(weights.element_count()) / features;
  const int32_t classes = number(settings, "classes"), steps = number(settings, "steps");
  return {weights.typed_data(), thresholds.typed_data(), sums, inputs, classes,
          int32_t(features / classes), steps, flag(settings, "fractional")};
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
  DenseLayer layer = layer_of(weights, thresholds, sums.typed_data(), settings);
  layer.weights = learned->typed_data();
  const float* given = numbers.typed_data();
  const Numbers rule_numbers = {given[0], given[1], given[2], given[3], given[4], given[5]};
  const Rule rule = {rule_numbers, int32_t(number(settings, "non_targets")), flag(settings, "competition"),
                     flag(settings, "one_sided"), flag(settings, "normalise"), flag(settings, "fallback")};
  const int32_t first = span.typed_data()[0], end = span.typed_data()[1];
  Learning learning(layer, rule, learned->typed_data(), raised->typed_data(), sums.typed_data(), end - first < kFew);
  const Results results = {decision->typed_data(), neuron->typed_data(), label->typed_data(),
                           time->typed_data(), error->typed_data(), threshold->typed_data()};
  learning.images(latencies.typed_data(), labels.typed_data(), first, end, results);
  return ffi::Error::Success();
}

// The earliest neuron of each class, for each of B images.
ffi::Error earliest_of_classes(Floats weights, Bytes latencies, Floats thresholds, ffi::Dictionary settings,
                               ffi::Result<Bytes> step, ffi::Result<Floats> potential, ffi::Result<Floats> time) {
  std::vector<float> sums(thresholds.element_count());
  const DenseLayer layer = layer_of(weights, thresholds, sums.data(), settings);
  for (int64_t f = 0; f < sums.size(); ++f) sums[f] = sum_of(layer.weights + f * layer.inputs, layer.inputs);
  auto find = [&](int64_t image, const Inputs& inputs) {
    for (int64_t group = 0; group < layer.classes; ++group) {
      const Spike first = earliest(layer, inputs, group);
      const int64_t place = image * layer.classes + group;
      step->typed_data()[place] = first.step;
      potential->typed_data()[place] = first.potential;
      time->typed_data()[place] = first.time;
    }
  };
  each_image(Inputs(layer.inputs, layer.time_steps), latencies, 0, latencies.dimensions()[0], find);
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(snnjax_learn_readout, learn_readout);
XLA_FFI_DEFINE_HANDLER_SYMBOL(snnjax_earliest_of_classes, earliest_of_classes);
