// Spiking layers on a CPU, event by event: only inputs that fired cost anything.
//
// Weights are (kh, C, kw, F) with the columns of the kernel from right to left and F filled up with zeros to a multiple
// of kFilled, so that all that one input adds to a row of potentials (H', W', F) lies side by side. Latencies are uint8,
// T where silent; padding never fires; the stride is 1. Python has checked all buffers.

#include <array>
#include <tuple>

#include "batch.h"

namespace {

// A layer and the potentials of its neurons while inputs fire.
struct EventLayer {
  enum : uint8_t { kQuiet, kTouched, kDead };

  const FloatPart taps;
  const BytePart inputs;
  const ffi::Dictionary& settings;
  const float* weights = taps.typed_data();
  const uint8_t* latency = inputs.typed_data();
  int64_t rows = taps.dimensions()[0], channels = taps.dimensions()[1];
  int64_t columns = taps.dimensions()[2], stride = taps.dimensions()[3];
  int64_t height = inputs.dimensions()[1], width = inputs.dimensions()[2];
  int64_t above = number(settings, "above"), left = number(settings, "left");  // padding
  int64_t out_height = height + 2 * above - rows + 1, out_width = width + 2 * left - columns + 1;
  int64_t positions = out_height * out_width;
  float* potential = filled<0, float>(positions * stride, 0);  // [positions, stride]
  uint8_t* state = filled<1, uint8_t>(positions, kQuiet);  // [positions]

  // All inputs of one step fire.
  void advance(int64_t step) {
    with_known<1, 2, 5, 7, 10, 13, 16, 0>(stride / kFilled, [&]<int64_t kRows>() {
      advance_by<kRows * kFilled / kLanes>(step);
    });
  }

 private:
  // `kBlocks` x kLanes features, known to the compiler; any number if 0.
  template <int64_t kBlocks>
  void advance_by(int64_t step) {
    const int64_t size = height * width, count = channels * size;
    const uint64_t same = 0x0101010101010101u * step;
    int64_t index = 0;
    for (; index + 8 <= count; index += 8) {
      uint64_t eight;
      std::memcpy(&eight, latency + index, 8);
      eight ^= same;  // a byte is zero where the input fires
      if (!((eight - 0x0101010101010101u) & ~eight & 0x8080808080808080u)) continue;
      for (int64_t i = index; i < index + 8; ++i)
        if (latency[i] == step) excite<kBlocks>(i / size, i % size / width, i % width);
    }
    for (; index < count; ++index)
      if (latency[index] == step) excite<kBlocks>(index / size, index % size / width, index % width);
  }

  template <int64_t kBlocks>
  void excite(int32_t channel, int32_t row, int32_t column) {
    const int64_t blocks = kBlocks ? kBlocks : stride / kLanes;
    const int64_t first = std::max<int64_t>(0, column + left - columns + 1);
    const int64_t last = std::min(out_width - 1, column + left);
    for (int64_t y = std::max<int64_t>(0, row + above - rows + 1); y <= std::min(out_height - 1, row + above); ++y) {
      const int64_t tap = row + above - y, skipped = first - (column + left - columns + 1);
      const float* from = weights + ((tap * channels + channel) * columns + skipped) * stride;
      const Lanes* gain = reinterpret_cast<const Lanes*>(from);
      Lanes* sum = reinterpret_cast<Lanes*>(potential + (y * out_width + first) * stride);
      uint8_t* now = state + y * out_width + first;
      for (int64_t x = first; x <= last; ++x, gain += blocks, sum += blocks, ++now) {
        if (*now == kDead) continue;
        *now = kTouched;
        for (int64_t b = 0; b < blocks; ++b) sum[b] += gain[b];
      }
    }
  }
};

// One threshold for all features, or one for each, for the zeros that fill up F infinity.
struct Limits {
  const FloatPart thresholds;
  const float* values = thresholds.typed_data();
  int64_t count = thresholds.element_count();

  // Below a threshold of 0 neurons without input fire too: at the first step all are looked at.
  void begin(EventLayer& layer) const {
    if (*std::min_element(values, values + count) < 0) std::fill_n(layer.state, layer.positions, EventLayer::kTouched);
  }
};

// Fire, pointwise inhibition and k winners, step after step until the winners are known.
void find_winners(const FloatPart& weights, const BytePart& latency, const FloatPart& threshold, int64_t inhibition,
                  const ffi::Dictionary& settings, const IntegerPart& feature, const IntegerPart& row,
                  const IntegerPart& column, const BytePart& when) {
  static thread_local std::vector<std::tuple<float, int32_t, int32_t>> spikes;  // -potential, feature, position
  static thread_local std::vector<uint8_t> used;
  EventLayer layer{weights, latency, settings};
  const Limits limits{threshold};
  limits.begin(layer);
  const bool shared = limits.count == 1;
  const float limit = shared ? limits.values[0] : -std::numeric_limits<float>::infinity();
  const int64_t features = number(settings, "features");  // without those that fill up F
  float* above = filled<4, float>(shared ? 0 : layer.stride, 0);  // potentials, -infinity where below their thresholds
  used.assign(layer.stride, 0);
  const int64_t k = feature.element_count(), steps = number(settings, "steps");
  int32_t *rows = row.typed_data(), *columns = column.typed_data();
  std::fill_n(feature.typed_data(), k, -1);
  std::fill_n(rows, k, 0);
  std::fill_n(columns, k, 0);
  std::fill_n(when.typed_data(), k, steps);
  int64_t won = 0;
  for (int64_t step = 0; step < steps && won < k; ++step) {
    layer.advance(step);
    spikes.clear();
    for (int64_t position = 0; position < layer.positions; ++position) {
      if (layer.state[position] != EventLayer::kTouched) continue;
      layer.state[position] = EventLayer::kQuiet;
      const float* sums = layer.potential + position * layer.stride;
      if (!shared) {
        for (int64_t f = 0; f < features; ++f) above[f] = sums[f] > limits.values[f] ? sums[f] : limit;
        sums = above;
      }
      const float strongest = largest(sums, features);
      if (!(strongest > limit)) continue;
      layer.state[position] = EventLayer::kDead;
      const int32_t first = std::find(sums, sums + features, strongest) - sums;
      if (!used[first]) spikes.push_back({-strongest, first, position});
    }
    std::sort(spikes.begin(), spikes.end());
    for (const auto& [potential, winner, position] : spikes) {
      if (won == k) break;
      const int64_t y = position / layer.out_width, x = position % layer.out_width;
      bool inhibited = used[winner];
      for (int64_t other = 0; inhibition > 0 && !inhibited && other < won; ++other)
        inhibited = std::abs(rows[other] - y) <= inhibition && std::abs(columns[other] - x) <= inhibition;
      if (inhibited) continue;
      used[winner] = 1;
      feature.typed_data()[won] = winner;
      rows[won] = y;
      columns[won] = x;
      when.typed_data()[won++] = step;
    }
  }
}

ffi::Error winners(Threads threads, Floats weights, Bytes latency, Floats threshold, Integers radius,
                   ffi::Dictionary settings, ffi::Result<Integers> feature, ffi::Result<Integers> row,
                   ffi::Result<Integers> column, ffi::Result<Bytes> when) {
  const Batch batch(feature, 1);
  return batch.each(threads, [&](int64_t i) {
    find_winners(batch.part(weights, 4, i), batch.part(latency, 3, i), batch.part(threshold, 1, i),
                 *batch.part(radius, 1, i).data, settings, batch.part(*feature, 1, i), batch.part(*row, 1, i),
                 batch.part(*column, 1, i), batch.part(*when, 1, i));
  });
}

// When each neuron first crosses its threshold, its potential then, and before that step; where silent, the last ones.
void follow(const FloatPart& weights, const BytePart& latency, const FloatPart& threshold,
            const ffi::Dictionary& settings, const BytePart& when, const FloatPart& potential,
            const FloatPart& before) {
  EventLayer layer{weights, latency, settings};
  const Limits limits{threshold};
  limits.begin(layer);
  const int32_t steps = number(settings, "steps");
  const int64_t blocks = layer.stride / kLanes, size = layer.positions * layer.stride;
  float* thresholds = filled<4, float>(layer.stride, limits.values[0]);
  if (limits.count > 1) std::copy_n(limits.values, layer.stride, thresholds);
  int32_t* first = filled<2, int32_t>(size, steps);
  float *latest = filled<5, float>(size, 0), *earlier = filled<6, float>(size, 0);
  for (int32_t step = 0; step < steps; ++step) {
    layer.advance(step);
    const Steps now = Steps{} + step, never = Steps{} + steps;
    for (int64_t position = 0; position < layer.positions; ++position) {
      if (layer.state[position] != EventLayer::kTouched) continue;
      layer.state[position] = EventLayer::kQuiet;
      const int64_t offset = position * blocks;
      const Lanes* sums = reinterpret_cast<const Lanes*>(layer.potential) + offset;
      const Lanes* threshold_of = reinterpret_cast<const Lanes*>(thresholds);
      Steps* fired = reinterpret_cast<Steps*>(first) + offset;
      Lanes *last = reinterpret_cast<Lanes*>(latest) + offset, *old = reinterpret_cast<Lanes*>(earlier) + offset;
      for (int64_t b = 0; b < blocks; ++b) {
        const Steps open = fired[b] == never;
        old[b] = open ? last[b] : old[b];
        last[b] = open ? sums[b] : last[b];
        fired[b] = open & (sums[b] > threshold_of[b]) ? now : fired[b];
      }
    }
  }
  const int64_t features = when.dimensions()[0];
  turn(first, when.typed_data(), layer.positions, layer.stride, features);
  turn(latest, potential.typed_data(), layer.positions, layer.stride, features);
  turn(earlier, before.typed_data(), layer.positions, layer.stride, features);
}

ffi::Error timed_spikes(Threads threads, Floats weights, Bytes latency, Floats threshold, ffi::Dictionary settings,
                        ffi::Result<Bytes> when, ffi::Result<Floats> potential, ffi::Result<Floats> before) {
  const Batch batch(when, 3);
  return batch.each(threads, [&](int64_t i) {
    follow(batch.part(weights, 4, i), batch.part(latency, 3, i), batch.part(threshold, 1, i), settings,
           batch.part(*when, 3, i), batch.part(*potential, 3, i), batch.part(*before, 3, i));
  });
}

// The potential of each neuron after the last step.
ffi::Error potentials(Threads threads, Floats weights, Bytes latency, ffi::Dictionary settings,
                      ffi::Result<Floats> result) {
  const Batch batch(result, 3);
  return batch.each(threads, [&](int64_t i) {
    EventLayer layer{batch.part(weights, 4, i), batch.part(latency, 3, i), settings};
    for (int64_t step = 0; step < number(settings, "steps"); ++step) layer.advance(step);
    const FloatPart sums = batch.part(*result, 3, i);
    turn(layer.potential, sums.typed_data(), layer.positions, layer.stride, sums.dimensions()[0]);
  });
}

// The winners' weights move, in place where XLA allows.
ffi::Error learn(Floats weights, Bytes latency, Integers feature, Integers row, Integers column, Bytes when,
                 Floats rates, Floats bounds, ffi::Dictionary settings, ffi::Result<Floats> result) {
  const auto shape = weights.dimensions();
  const int64_t rows = shape[0], channels = shape[1], columns = shape[2], stride = shape[3];
  const int64_t height = latency.dimensions()[1], width = latency.dimensions()[2];
  const int64_t above = number(settings, "above"), left = number(settings, "left"), last = number(settings, "steps") - 1;
  const bool stabiliser = flag(settings, "stabiliser");
  float* out = result->typed_data();
  keep(weights, result);
  static thread_local std::vector<std::array<int64_t, 4>> winners;  // feature, top row, left column, latest step
  winners.clear();
  for (size_t i = 0; i < feature.element_count(); ++i) {
    const int64_t won = feature.typed_data()[i], top = row.typed_data()[i] - above;
    const int64_t latest = std::min<int64_t>(when.typed_data()[i], last);
    if (won >= 0 && won < stride) winners.push_back({won, top, column.typed_data()[i] - left, latest});
  }
  const float gain = rates.typed_data()[0], loss = rates.typed_data()[1];
  const float lower = bounds.typed_data()[0], upper = bounds.typed_data()[1];
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t channel = 0; channel < channels; ++channel)
      for (int64_t c = 0; c < columns; ++c) {
        const uint8_t* inputs = latency.typed_data() + channel * height * width;
        float* of_tap = out + ((r * channels + channel) * columns + c) * stride;
        for (const auto& [won, top, first, latest] : winners) {
          const int64_t y = top + r, x = first + columns - 1 - c;
          const bool inside = y >= 0 && y < height && x >= 0 && x < width;
          float& weight = of_tap[won];
          float change = inside && inputs[y * width + x] <= latest ? gain : loss;
          if (stabiliser) change *= (weight - lower) * (upper - weight);
          weight = std::min(std::max(weight + change, lower), upper);
        }
      }
  return ffi::Error::Success();
}

// Weights as they are given, (F, C, kh, kw), after the winners of a layer with any stride have learned; all are clipped
// if any neuron has won. `learn` above moves arranged weights in place, which lie within the bounds.
void learn_rows(const FloatPart& weights, const BytePart& latency, const IntegerPart& feature, const IntegerPart& row,
                const IntegerPart& column, const IntegerPart& when, const FloatPart& rates, const FloatPart& bounds,
                const ffi::Dictionary& settings, const FloatPart& result) {
  const int64_t channels = weights.dimensions()[1], rows = weights.dimensions()[2], columns = weights.dimensions()[3];
  const int64_t height = latency.dimensions()[1], width = latency.dimensions()[2], size = weights.element_count();
  const auto layer = numbers(settings, "layer");  // padding and strides
  const int32_t steps = number(settings, "steps");
  const bool stabiliser = flag(settings, "stabiliser");
  const float gain = rates.data[0], loss = rates.data[1], lower = bounds.data[0], upper = bounds.data[1];
  const int64_t places = feature.element_count();
  if (std::all_of(feature.data, feature.data + places, [](int32_t won) { return won < 0; })) {
    std::copy_n(weights.data, size, result.data);
    return;
  }
  for (int64_t i = 0; i < size; ++i) result.data[i] = std::min(std::max(weights.data[i], lower), upper);
  for (int64_t place = 0; place < places; ++place) {
    const int64_t won = feature.data[place];
    if (won < 0 || won >= weights.dimensions()[0]) continue;
    const int64_t top = row.data[place] * layer[2] - layer[0], first = column.data[place] * layer[3] - layer[1];
    const int32_t latest = std::min(when.data[place], steps - 1);
    const float* from = weights.data + won * channels * rows * columns;
    float* to = result.data + won * channels * rows * columns;
    for (int64_t channel = 0; channel < channels; ++channel)
      for (int64_t y = top; y < top + rows; ++y)
        for (int64_t x = first; x < first + columns; ++x, ++from, ++to) {
          const bool inside = y >= 0 && y < height && x >= 0 && x < width;
          float change = inside && latency.data[(channel * height + y) * width + x] <= latest ? gain : loss;
          if (stabiliser) change *= (*from - lower) * (upper - *from);
          *to = std::min(std::max(*from + change, lower), upper);
        }
  }
}

ffi::Error stdp(Threads threads, Floats weights, Bytes latency, Integers feature, Integers row, Integers column,
                Integers when, Floats rates, Floats bounds, ffi::Dictionary settings, ffi::Result<Floats> result) {
  const Batch batch(result, 4);
  return batch.each(threads, [&](int64_t i) {
    learn_rows(batch.part(weights, 4, i), batch.part(latency, 3, i), batch.part(feature, 1, i), batch.part(row, 1, i),
               batch.part(column, 1, i), batch.part(when, 1, i), batch.part(rates, 1, i), batch.part(bounds, 1, i),
               settings, batch.part(*result, 4, i));
  });
}

// Gives the values their latencies, `bin` of them to a step, from `step` to before `last`; the least keys come first.
void share(uint64_t* first, uint64_t* end, int64_t bin, int64_t step, int64_t last, uint8_t* latency) {
  if (last - step == 1) {
    for (; first != end; ++first) latency[*first & 0xffffffffu] = step;
    return;
  }
  const int64_t middle = (step + last) / 2;
  if ((middle - step) * bin >= end - first) return share(first, end, bin, step, middle, latency);
  uint64_t* half = first + (middle - step) * bin;
  std::nth_element(first, half, end);
  share(first, half, bin, step, middle, latency);
  share(half, end, bin, middle, last, latency);
}

// Intensities to latencies: by value, equal ones in order of flat index.
void order(const FloatPart& intensities, int64_t steps, const BytePart& result) {
  const int64_t size = intensities.element_count();
  uint64_t* keys = filled<3, uint64_t>(size, 0);
  int64_t count = 0;
  for (int64_t i = 0; i < size; ++i) {
    const float value = intensities.typed_data()[i];  // floats above 0 order as the integers of their bits do
    keys[count] = static_cast<uint64_t>(~std::bit_cast<uint32_t>(value)) << 32 | i;
    count += value > 0;
  }
  const int64_t bin = std::max<int64_t>(1, count / steps), shared = std::min(count, bin * steps);
  std::memset(result.data, steps, size);
  if (shared < count) std::nth_element(keys, keys + shared, keys + count);
  share(keys, keys + shared, bin, 0, steps, result.data);
}

ffi::Error rank_order(Threads threads, Floats intensities, ffi::Dictionary settings, ffi::Result<Bytes> result) {
  const int64_t rank = number(settings, "rank"), steps = number(settings, "steps");
  const Batch batch(result, rank);
  return batch.each(threads, [&](int64_t i) {
    order(batch.part(intensities, rank, i), steps, batch.part(*result, rank, i));
  });
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(snnjax_winners, winners);
XLA_FFI_DEFINE_HANDLER_SYMBOL(snnjax_timed_spikes, timed_spikes);
XLA_FFI_DEFINE_HANDLER_SYMBOL(snnjax_potentials, potentials);
XLA_FFI_DEFINE_HANDLER_SYMBOL(snnjax_learn, learn);
XLA_FFI_DEFINE_HANDLER_SYMBOL(snnjax_stdp, stdp);
XLA_FFI_DEFINE_HANDLER_SYMBOL(snnjax_rank_order, rank_order);
