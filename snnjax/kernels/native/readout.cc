// Fully connected readouts that learn by supervised STDP, one stimulus after the other.
//
// Weights are (F, K) as Python has them: an update goes through the rows of a few neurons. Python has checked all
// buffers.

#include "batch.h"
#include "firing.h"
#include "shared.h"

namespace {

constexpr int64_t kFew = 16;  // fewer stimuli are not worth another thread

// w += gain for inputs up to `step`, w += loss for all other inputs, clipped to the bounds. Returns the sum.
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
  bool competition, one_sided, normalise;
};

// The earliest neuron of each class.
struct Earliest {
  uint8_t* step;
  float *potential, *time;

  void put(int64_t place, const Spike& spike) const {
    step[place] = spike.step, potential[place] = spike.potential, time[place] = spike.time;
  }
};

// The results of stimuli: of each the earliest neurons, the n neurons that learn, the m thresholds of its class, and the
// label.
struct Results {
  Earliest earliest;
  int32_t *neuron, *label;
  float *time, *error, *threshold;
};

// Learns stimulus after stimulus. Two cores share the classes. At each stimulus, the neurons of a class that have learned
// from the previous stimulus move first; then the potentials of the whole class are computed, while its weights are in
// the cache.
class Learning {
 public:
  // `sums` are those to which weights are rescaled, if the rule does.
  Learning(const DenseLayer& layer, const Rule& rule, float* weights, float* excess, const float* sums, bool alone)
      : layer_(layer), rule_(rule), weights_(weights), excess_(excess),
        per_class_(rule.competition ? 1 : layer.size), count_(layer.classes * per_class_),
        competitors_(rule.competition && layer.size - rule.others > 1 ? layer.size - rule.others : 0),
        sums_(sums, sums + layer.classes * layer.size), inputs_(3, Inputs(layer.inputs, layer.time_steps)),
        spikes_(layer.classes * layer.size), raised_(spikes_), first_(layer.classes), group_(count_), errors_(count_),
        tasks_([this](int32_t task) { perform(task); }, alone) {
    layer_.sums = sums_.data();
  }

  // Learns from the stimuli with these numbers, nothing where `labels` are -1.
  void learn_from(const std::vector<int64_t>& stimuli, const uint8_t* latencies, const int32_t* labels,
                  const Results& results) {
    if (stimuli.empty()) return;
    stimuli_ = stimuli.data(), end_ = stimuli.size(), latencies_ = latencies, now_ = -1, moves_ = false;
    // Added up as by an update that changes nothing, so that a run that was stopped rounds as one that was not.
    for (size_t f = 0; !rule_.normalise && f < sums_.size(); ++f)
      sums_[f] = update(weights_ + f * layer_.inputs, latencies, layer_.inputs, 0, 0, 0, kSilent, -kSilent);
    read();
    for (now_ = 0; now_ < end_; ++now_) {
      const int64_t stimulus = stimuli_[now_];
      label_ = labels[stimulus];
      // By the equations, a silent image would add gap a+ to all weights of its class.
      learns_ = label_ >= 0 && !inputs_of(now_).steps.empty();
      // The cores meet once per stimulus, and the free one reads the next inputs: 0.14 instead of 0.27 ms with 24,576
      // inputs and 50 neurons.
      tasks_.run(layer_.classes + (now_ + 1 < end_));
      for (int32_t group = 0; group < layer_.classes; ++group)
        results.earliest.put(stimulus * layer_.classes + group, first_[group]);
      results.label[stimulus] = learns_ ? label_ : -1;
      if (learns_) learn(stimulus, results);
      moves_ = learns_;
    }
    tasks_.run(layer_.classes);
  }

 private:
  // Three turns are in use at once: one whose neurons still move, the present one, and the next one, which is read.
  Inputs& inputs_of(int64_t turn) { return inputs_[turn % 3]; }

  // The inputs of the next stimulus.
  void read() { inputs_of(now_ + 1).read(latencies_ + stimuli_[now_ + 1] * layer_.inputs); }

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

  // Finds the errors of the neurons that learn from this stimulus.
  void learn(int64_t stimulus, const Results& results) {
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
      const int64_t place = stimulus * count_ + i;
      results.neuron[place] = neuron, results.time[place] = time, results.error[place] = errors_[i];
    }
    const int32_t first = label_ * layer_.size + rule_.others;
    for (int32_t j = 0; j < competitors_; ++j)
      results.threshold[stimulus * competitors_ + j] = layer_.thresholds[first + j] + excess_[first + j];
  }

  void move(const Inputs& inputs, const Spike& spike, float error) {
    const Numbers& numbers = rule_.numbers;
    const float gain = error * numbers.plus, loss = error * numbers.minus;
    float* row = weights_ + spike.neuron * layer_.inputs;
    const float total =
        update(row, inputs.when, layer_.inputs, spike.step, gain, loss, numbers.lower, numbers.upper);
    if (!rule_.normalise) sums_[spike.neuron] = total;
    else if (total > 0) scale(row, layer_.inputs, sums_[spike.neuron] / total, numbers.lower, numbers.upper);
  }

  DenseLayer layer_;
  const Rule rule_;
  float *weights_, *excess_;
  const int32_t per_class_, count_, competitors_;  // learning neurons, of a class and in all; with training thresholds
  std::vector<float> sums_;  // of each neuron's weights: those to which they are rescaled, or the present ones
  const int64_t* stimuli_ = nullptr;
  const uint8_t* latencies_ = nullptr;
  int64_t now_ = 0, end_ = 0;  // turns: indices of `stimuli_`
  int32_t label_ = -1;
  bool learns_ = false, moves_ = false;  // from this stimulus, from the one before
  std::vector<Inputs> inputs_;
  std::vector<Spike> spikes_, raised_, first_, group_;  // of all neurons; the earliest of classes; those that learn
  std::vector<float> errors_;
  SharedTasks tasks_;
};

DenseLayer layer_of(const FloatPart& weights, const FloatPart& thresholds, const ffi::Dictionary& settings) {
  const int64_t features = thresholds.element_count();
  const int32_t classes = number(settings, "classes"), steps = number(settings, "steps");
  return {weights.data, thresholds.data, nullptr, weights.element_count() / features, classes,
          int32_t(features / classes), steps, flag(settings, "fractional")};
}

template <typename T>
void fill(const Part<T>& result, T value) {
  std::fill_n(result.data, result.element_count(), value);
}

// `kernels.learn_readout` of sequences (S, K), to whose neurons belong the `weights` (F, K).
ffi::Error learn_readout(Threads threads, Floats weights, Floats excess, Bytes latencies, Integers labels,
                         Flags learns, Floats thresholds, Floats sums, Floats numbers, ffi::Dictionary settings,
                         ffi::Result<Floats> learned, ffi::Result<Floats> raised, ffi::Result<Bytes> step,
                         ffi::Result<Floats> potential, ffi::Result<Floats> when, ffi::Result<Integers> neuron,
                         ffi::Result<Floats> time, ffi::Result<Floats> error, ffi::Result<Integers> label,
                         ffi::Result<Floats> threshold) {
  const Batch batch(label, 1);
  return batch.each(threads, [&](int64_t i) {
    const FloatPart new_weights = batch.part(*learned, 4, i), new_excess = batch.part(*raised, 1, i);
    const auto copy = [](const FloatPart& from, const FloatPart& to) {  // which may be the same
      if (to.data != from.data) std::copy_n(from.data, from.element_count(), to.data);
    };
    copy(batch.part(weights, 4, i), new_weights), copy(batch.part(excess, 1, i), new_excess);
    const BytePart first_steps = batch.part(*step, 2, i);
    const FloatPart first_potentials = batch.part(*potential, 2, i), first_times = batch.part(*when, 2, i);
    const IntegerPart neurons = batch.part(*neuron, 2, i), labels_learned = batch.part(*label, 1, i);
    const FloatPart times = batch.part(*time, 2, i), errors = batch.part(*error, 2, i);
    const FloatPart new_thresholds = batch.part(*threshold, 2, i);
    fill(first_steps, uint8_t(number(settings, "steps"))), fill(first_times, 1.0f);
    for (const auto& result : {neurons, labels_learned}) fill(result, -1);
    for (const auto& result : {first_potentials, times, errors, new_thresholds}) fill(result, 0.0f);
    const FlagPart flags = batch.part(learns, 1, i);
    std::vector<int64_t> stimuli;
    for (int64_t stimulus = 0; stimulus < flags.element_count(); ++stimulus)
      if (flags.data[stimulus]) stimuli.push_back(stimulus);
    const float* given = batch.part(numbers, 1, i).data;
    const Numbers rule_numbers = {given[0], given[1], given[2], given[3], given[4], given[5]};
    const Rule rule = {rule_numbers, int32_t(number(settings, "non_targets")), flag(settings, "competition"),
                       flag(settings, "one_sided"), flag(settings, "normalise")};
    const DenseLayer layer = layer_of(new_weights, batch.part(thresholds, 1, i), settings);
    const bool alone = int64_t(stimuli.size()) < kFew || batch.size() > 1;
    Learning learning(layer, rule, new_weights.data, new_excess.data, batch.part(sums, 1, i).data, alone);
    const Results results = {{first_steps.data, first_potentials.data, first_times.data},
                             neurons.data, labels_learned.data, times.data, errors.data, new_thresholds.data};
    learning.learn_from(stimuli, batch.part(latencies, 4, i).data, batch.part(labels, 1, i).data, results);
  });
}

// The earliest neuron of each class, for each of S stimuli, which are the last axis of the batch.
ffi::Error earliest_of_classes(Threads threads, Floats weights, Bytes latencies, Floats thresholds,
                               ffi::Dictionary settings, ffi::Result<Bytes> step, ffi::Result<Floats> potential,
                               ffi::Result<Floats> time) {
  const Batch batch(step, 1);
  const int64_t features = weights.dimensions().last(4)[0];
  std::vector<float> sums(batch.distinct(weights) * features);  // of the neurons of each network
  batch.each_distinct(threads, weights, 4, [&](int64_t network, const FloatPart& rows) {
    const int64_t inputs = rows.element_count() / features;
    for (int64_t f = 0; f < features; ++f) sums[network * features + f] = sum_of(rows.data + f * inputs, inputs);
  });
  return batch.each(threads, [&](int64_t i) {
    DenseLayer layer = layer_of(batch.part(weights, 4, i), batch.part(thresholds, 1, i), settings);
    layer.sums = sums.data() + batch.index_of(weights, 4, i) * features;
    static thread_local Inputs fired(0, 0);
    fired.resize(layer.inputs, layer.time_steps);
    fired.read(batch.part(latencies, 3, i).data);
    const Earliest found = {batch.part(*step, 1, i).data, batch.part(*potential, 1, i).data,
                            batch.part(*time, 1, i).data};
    for (int32_t group = 0; group < layer.classes; ++group) found.put(group, earliest(layer, fired, group));
  });
}

}  // namespace

SNNJAX_KERNEL(learn_readout)
SNNJAX_KERNEL(earliest_of_classes)
