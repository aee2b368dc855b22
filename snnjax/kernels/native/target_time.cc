// Features with target times on a CPU: patches are learned from one after the other, event by event.
//
// While they learn, the weights of a sequence lie as in `EventLayout`, whose rows are called taps here. The features that
// fill up F have infinite thresholds. Python has checked all buffers.

#include "geometry.h"

namespace {

bool any(const Steps& flags) { return bits(flags); }

// The inputs of a patch that fire, step by step.
class Events {
 public:
  Events(const Geometry& layer, int64_t steps)
      : layer_(layer), steps_(steps), first_(steps, -1), next_(layer.synapses()), when_(layer.synapses()) {}

  // From the patch that the neuron in this row and column sees.
  void read(const uint8_t* latency, int64_t row, int64_t column) {
    const int64_t top = row * layer_.down - layer_.above, left = column * layer_.right - layer_.left;
    std::fill(first_.begin(), first_.end(), -1);
    std::fill(used_, used_ + 4, 0);
    int64_t tap = layer_.synapses();
    for (int64_t y = top + layer_.rows - 1; y >= top; --y)
      for (int64_t channel = layer_.channels - 1; channel >= 0; --channel)
        for (int64_t x = left; x < left + layer_.columns; ++x) {
          --tap;
          const bool inside = y >= 0 && y < layer_.height && x >= 0 && x < layer_.width;
          const int64_t step = inside ? latency[(channel * layer_.height + y) * layer_.width + x] : steps_;
          when_[tap] = step;
          if (step >= steps_) continue;
          next_[tap] = first_[step];
          first_[step] = tap;
          used_[step / 64] |= uint64_t{1} << step % 64;
        }
  }

  // Calls `fire(tap)` for the inputs of each step, then `end(step)`, until that returns true; whether it has.
  template <typename Fire, typename End>
  bool play(Fire fire, End end) const {
    for (int64_t word = 0; word < 4; ++word)
      for (uint64_t remaining = used_[word]; remaining; remaining &= remaining - 1) {
        const int64_t step = 64 * word + __builtin_ctzll(remaining);
        for (int32_t tap = first_[step]; tap >= 0; tap = next_[tap]) fire(tap);
        if (end(step)) return true;
      }
    return false;
  }

  int64_t when(int64_t tap) const { return when_[tap]; }

  bool has_inputs() const { return used_[0] | used_[1] | used_[2] | used_[3]; }

 private:
  const Geometry layer_;
  const int64_t steps_;
  std::vector<int32_t> first_, next_;  // of each step the first tap, of each tap the next one of its step; -1: none
  std::vector<uint8_t> when_;
  uint64_t used_[4];  // a bit for each step at which inputs fire
};

// The numbers of the rule.
struct Rule {
  float rate, threshold_rate, beta, target, least, lower, upper;
  int64_t steps, most_quiet;
};

// Learns from the patches of a sequence of stimuli, in order.
void learn_sequence(const Rule& rule, const Geometry& layer, const FloatPart& weights, const FloatPart& threshold,
                    const BytePart& latencies, const IntegerPart& positions, const FlagPart& learns, int32_t in_a_row,
                    const FloatPart& learned, const FloatPart& moved, const IntegerPart& feature,
                    const IntegerPart& when, int32_t* quiet) {
  const EventLayout layout(layer);
  const int64_t features = layer.features, taps = layer.synapses(), stride = layout.stride, blocks = stride / kLanes;
  const int64_t patches = positions.shape[1];
  // `Memory` instead of `std::vector`: no vector then lies in two lines of the cache, which takes 0.85 to 0.92 times
  // the time.
  const Memory<float> packed_memory(layout.size()), potential_memory(stride), limits_memory(stride);
  float *arranged = packed_memory.data(), *potential = potential_memory.data(), *limits = limits_memory.data();
  layout.pack(weights.data, arranged);
  std::fill_n(limits, stride, std::numeric_limits<float>::infinity());  // also of features that fill up F
  std::copy_n(threshold.data, features, limits);
  std::fill_n(feature.data, feature.element_count(), -1);
  std::fill_n(when.data, when.element_count(), rule.steps);
  const float won = features > 1 ? rule.threshold_rate : 0;
  const float lost = features > 1 ? rule.threshold_rate / (features - 1) : 0;
  Lanes *sums = reinterpret_cast<Lanes*>(potential), *thresholds = reinterpret_cast<Lanes*>(limits);
  Events events(layer, rule.steps);
  for (int64_t patch = 0; patch < learns.element_count() * patches; ++patch) {
    const int64_t stimulus = patch / patches;
    if (!learns.data[stimulus]) continue;
    const int32_t* position = positions.data + 2 * patch;
    events.read(latencies.data + stimulus * layer.inputs(), position[0], position[1]);
    std::fill_n(potential, stride, 0.0f);
    const auto fire = [&](int64_t tap) {
      const Lanes* gain = reinterpret_cast<const Lanes*>(arranged + tap * stride);
      for (int64_t b = 0; b < blocks; ++b) sums[b] += gain[b];
    };
    int64_t step = rule.steps;
    const auto crossed = [&](int64_t now) {
      Steps reached = sums[0] >= thresholds[0];
      for (int64_t b = 1; b < blocks; ++b) reached |= sums[b] >= thresholds[b];
      step = now;
      return any(reached);
    };
    if (!events.play(fire, crossed)) {
      const bool falls = events.has_inputs() && ++in_a_row > rule.most_quiet;
      const float fall = rule.threshold_rate * (1 - rule.target);
      for (int64_t f = 0; falls && f < features; ++f) limits[f] = std::max(limits[f] - fall, rule.least);
      continue;
    }
    in_a_row = 0;
    int64_t winner = -1;
    for (int64_t f = 0; f < features; ++f)
      if (potential[f] >= limits[f] && (winner < 0 || potential[f] > potential[winner])) winner = f;
    feature.data[patch] = winner;
    when.data[patch] = step;
    const float fall = rule.threshold_rate * (static_cast<float>(step) / rule.steps - rule.target);
    for (int64_t f = 0; f < features; ++f)
      limits[f] = std::max(limits[f] - fall + (f == winner ? won : -lost), rule.least);
    for (int64_t tap = 0; tap < taps; ++tap) {
      float& weight = arranged[tap * stride + winner];
      const float place = (weight - rule.lower) / (rule.upper - rule.lower);
      const bool causal = events.when(tap) <= step;  // silent inputs are at `steps`, beyond every step
      const float change = rule.rate * std::exp(-rule.beta * (causal ? place : 1 - place));
      weight = std::min(std::max(causal ? weight + change : weight - change, rule.lower), rule.upper);
    }
  }
  layout.unpack(arranged, learned.data);
  std::copy_n(limits, features, moved.data);
  *quiet = in_a_row;
}

// `kernels.learn_target_time` of sequences, from patches of the neurons at `positions` (S, P, 2): row and column.
ffi::Error learn_target_time(Threads threads, Floats weights, Floats threshold, Bytes latencies, Integers positions,
                             Flags learns, Floats numbers, Integers quiet, ffi::Dictionary settings,
                             ffi::Result<Floats> learned, ffi::Result<Floats> moved, ffi::Result<Integers> feature,
                             ffi::Result<Integers> when, ffi::Result<Integers> still_quiet) {
  const int64_t steps = number(settings, "steps"), most_quiet = number(settings, "most_quiet");
  const Geometry layer = geometry_of(weights, latencies, settings);
  const Batch batch(feature, 2);
  return batch.each(threads, [&](int64_t i) {
    const float* n = batch.part(numbers, 1, i).data;
    const Rule rule = {n[0], n[1], n[2], n[3], n[4], n[5], n[6], steps, most_quiet};
    learn_sequence(rule, layer, batch.part(weights, 4, i), batch.part(threshold, 1, i), batch.part(latencies, 4, i),
                   batch.part(positions, 3, i), batch.part(learns, 1, i), *batch.part(quiet, 0, i).data,
                   batch.part(*learned, 4, i), batch.part(*moved, 1, i), batch.part(*feature, 2, i),
                   batch.part(*when, 2, i), batch.part(*still_quiet, 0, i).data);
  });
}

}  // namespace

SNNJAX_KERNEL(learn_target_time)
