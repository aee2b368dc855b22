// When the neurons of a readout fire.
//
// The potentials of a few neurons are added up at once for a step before they are expected to fire, going through their
// rows of weights, and from there on in the order of the inputs' spikes until one of them crosses its threshold.
// Weights are (F, K) and >= 0, so that potentials never fall. Latencies are uint8, T where silent.

#pragma once

#include "common.h"

namespace {

constexpr int kRows = 8;  // neurons whose potentials are added up side by side
// Where to begin following neurons: so many times sqrt(n) inputs before the n that reach a threshold if all weights are
// equal. The image, the weights and the sums that a learner keeps decide it, so that a run that was stopped rounds as
// one that was not.
// With the first at 0.95 n, an image of goupy2024_ncg took 0.0091 instead of 0.0079 ms.
constexpr float kEarlier[] = {2.5f, 7.5f, 15.0f};
constexpr int64_t kLeastShare = 16;  // to go through less than a 16th of the inputs one by one is faster
constexpr float kNever = std::numeric_limits<float>::infinity();

Steps steps_of(const uint8_t* latencies) {
#if defined(__AVX512F__)
  return reinterpret_cast<Steps>(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(latencies))));
#elif defined(__AVX2__)
  return reinterpret_cast<Steps>(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(latencies))));
#else
  Steps steps;
  for (int64_t lane = 0; lane < kLanes; ++lane) steps[lane] = latencies[lane];
  return steps;
#endif
}

// The inputs of one image that fire, in order of their steps.
struct Inputs {
  static constexpr int64_t kApart = 4;  // counts of a step: one would wait for itself where neighbours are equal
  struct Step {
    int32_t step, end;  // inputs[..end) have fired after this step
  };
  int64_t size;
  int32_t time_steps;
  const uint8_t* when = nullptr;  // latencies
  std::vector<int32_t> spiking;  // the inputs that fire, as they lie in memory
  std::vector<int32_t> inputs;  // in order of their steps
  std::vector<Step> steps;

  Inputs(int64_t size, int32_t time_steps) { resize(size, time_steps); }

  void resize(int64_t inputs_of_image, int32_t steps_of_image) {
    size = inputs_of_image, time_steps = steps_of_image;
    spiking.resize(size), inputs.resize(size);
  }

  void read(const uint8_t* latency) {
    when = latency;
    int32_t fired = 0;
    for (int64_t i = 0; i < size; ++i) {
      // Without a branch, since which inputs fire is unpredictable. Only the third that fires is sorted: with all of
      // them, an image of goupy2024_ncg took 0.0110 instead of 0.0084 ms.
      spiking[fired] = i;
      fired += latency[i] < time_steps;
    }
    steps.clear();
    int32_t counts[kApart][256] = {}, place[256], end = 0;
    for (int32_t i = 0; i < fired; ++i) ++counts[i % kApart][latency[spiking[i]]];
    for (int32_t step = 0; step < time_steps; ++step) {
      int32_t count = 0;
      for (const auto& part : counts) count += part[step];
      place[step] = end;
      end += count;
      if (count) steps.push_back({step, end});
    }
    for (int32_t i = 0; i < fired; ++i) inputs[place[latency[spiking[i]]]++] = spiking[i];
  }

  // How many steps pass before more than `count` inputs have fired.
  int64_t steps_within(float count) const {
    auto fewer = [](float count, const Step& step) { return count < step.end; };
    return std::upper_bound(steps.begin(), steps.end(), count, fewer) - steps.begin();
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

struct DenseLayer {
  const float* weights;  // [F, K]
  const float *thresholds, *sums;  // [F]: thresholds, and about the sum of a neuron's weights
  int64_t inputs;
  int32_t classes, size;  // of a class
  int32_t time_steps;
  bool fractional;

  Spike fired(int32_t neuron, int32_t step, float before, float now, float threshold) const {
    const bool rises = before <= threshold;  // not so at the first step, below a threshold of 0
    const float late = fractional && rises ? step + (threshold - before) / (now - before) : step;
    // A product instead of a division, because XLA makes one of it too, and both back ends must round alike. At most
    // the float before 1: rounding must not make silence of a spike at the end of the last step.
    return {neuron, step, std::min(late * (1.0f / time_steps), std::nextafter(1.0f, 0.0f)), now};
  }

  Spike silent(int32_t neuron, float potential) const { return {neuron, time_steps, 1.0f, potential}; }
};

// The potentials of neurons first..first+kCount-1 after a step.
template <int kCount>
void potentials(const DenseLayer& layer, const Inputs& in, int32_t first, int32_t step, float* sum) {
  const float* row = layer.weights + first * layer.inputs;
  const int64_t stride = layer.inputs;
  const Steps last = Steps{} + step;
  Lanes sums[kCount] = {};
  int64_t i = 0;
  for (; i + kLanes <= stride; i += kLanes) {
    const Steps fired = steps_of(in.when + i) <= last;
    const float* here = row + i;
    for (int r = 0; r < kCount; ++r) sums[r] += fired ? *reinterpret_cast<const Lanes*>(here + r * stride) : Lanes{};
  }
  for (int r = 0; r < kCount; ++r) {
    sum[r] = sum_of(sums[r]);
    for (int64_t j = i; j < stride; ++j) sum[r] += in.when[j] <= step ? row[r * stride + j] : 0;
  }
}

// Finds a step at which no neuron of first..first+kCount-1 has crossed its limit, late if possible. Returns how many
// steps of `in` have passed; `sum` has the potentials then.
template <int kCount>
int64_t begin_late(const DenseLayer& layer, const Inputs& in, int32_t first, const float* limits, float* sum) {
  float expected = layer.inputs;
  int64_t tried = 0;
  for (int r = 0; r < kCount; ++r) expected = std::min(expected, limits[r] * layer.inputs / layer.sums[first + r]);
  for (const float roots : kEarlier) {
    const int64_t passed = in.steps_within(expected - roots * std::sqrt(expected));
    if (passed == tried) continue;
    if (!passed || in.steps[passed - 1].end * kLeastShare < layer.inputs) break;
    tried = passed;
    // Going through the rows once up to here, and spike by spike only from here on, takes 0.078 instead of 0.14 ms with
    // 24,576 inputs and 50 neurons. Potentials at several steps in one pass were slower.
    potentials<kCount>(layer, in, first, in.steps[passed - 1].step, sum);
    bool any = false;
    for (int r = 0; r < kCount; ++r) any |= sum[r] > limits[r];
    if (!any) return passed;
  }
  std::fill_n(sum, kCount, 0.0f);
  return 0;
}

// Adds up the potentials of neurons first..first+kCount-1 step by step up to step `last`. Where some exceed `limits`,
// it calls `crossed(step, before, now)` with potentials before and after the step, which may change limits, and stops
// if that returns true. Returns whether it has stopped; `now` has the potentials at last.
template <int kCount, typename Crossed>
bool integrate(const DenseLayer& layer, const Inputs& in, int32_t first, int32_t last, const float* limits, float* now,
               Crossed crossed) {
  const float* row = layer.weights + first * layer.inputs;
  const int64_t stride = layer.inputs;
  float sum[kCount], before[kCount];
  bool stopped = false;
  const int64_t passed = begin_late<kCount>(layer, in, first, limits, sum);
  const int32_t* input = in.inputs.data() + (passed ? in.steps[passed - 1].end : 0);
  // Step `last` included: if neurons of earlier blocks have fired then, a stronger one of this block may still fire
  // with them and win.
  for (auto it = in.steps.begin() + passed; it != in.steps.end() && it->step <= last; ++it) {
    const auto [step, end] = *it;
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
bool integrate(int count, const DenseLayer& layer, const Inputs& in, int32_t first, int32_t last, const float* limits,
               float* now, Crossed crossed) {
  return with_known<1, 2, 3, 4, 5, 6, 7, kRows>(count, [&]<int64_t kCount>() {
    return integrate<kCount>(layer, in, first, last, limits, now, crossed);
  });
}

// The earliest neuron of one class; later ones are not followed.
Spike earliest(const DenseLayer& layer, const Inputs& in, int32_t group) {
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
void all_of(const DenseLayer& layer, const Inputs& in, int32_t group, const float* excess, Spike* spikes,
            Spike* raised) {
  for (int32_t place = 0; place < layer.size; place += kRows) {
    const int32_t first = group * layer.size + place, count = std::min(kRows, layer.size - place);
    float limits[kRows], higher[kRows], now[kRows];
    bool fired[kRows] = {};
    int remaining = count;
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
        --remaining;
      }
      return remaining == 0;
    };
    integrate(count, layer, in, first, layer.time_steps, limits, now, crossed);
    for (int r = 0; r < count; ++r) {
      if (!fired[r]) spikes[place + r] = layer.silent(first + r, now[r]);
      if (limits[r] < kNever) raised[place + r] = layer.silent(first + r, now[r]);
    }
  }
}

}  // namespace
