// When the neurons of a layer fire, pooled: position by position, its inputs in the order in which they fire.
//
// The potentials of a position stay in registers, and pooling costs nothing: a pooled neuron fires at the earliest step
// of its positions.

#pragma once

#include "events.h"

namespace {

constexpr int64_t kRegisters = 8;  // blocks of kLanes features that are processed at once

// For each position the inputs that fire, in order: the row of their weights times 256, plus the step.
class Inputs {
 public:
  Inputs(const Geometry& g, const uint8_t* when, int32_t steps) : most_(g.synapses()) {
    lists_ = kept<5, uint32_t>(g.positions() * most_);
    count_ = filled<6, int32_t>(g.positions(), 0);
    const int64_t size = g.pixels(), inputs = g.inputs();
    int32_t* order = kept<7, int32_t>(inputs);
    int32_t end[257] = {};  // of each step, counted in `order`
    for (int64_t i = 0; i < inputs; ++i) ++end[when[i] + 1];
    for (int64_t step = 0; step < steps; ++step) end[step + 1] += end[step];
    for (int64_t i = 0; i < inputs; ++i)
      if (when[i] < steps) order[end[when[i]]++] = i;
    const int64_t fired = steps > 0 ? end[steps - 1] : 0;
    for (int64_t i = 0; i < fired; ++i) {
      const int32_t input = order[i], row = input % size / g.width, column = input % g.width;
      add(g, input / size, g.below(row), g.beside(column), when[input]);
    }
  }

  const uint32_t* begin(int64_t position) const { return lists_ + position * most_; }
  const uint32_t* end(int64_t position) const { return begin(position) + count_[position]; }

 private:
  // An input that fires reaches the neurons that see its row and its column.
  void add(const Geometry& g, int64_t channel, const Span& rows, const Span& columns, uint32_t step) {
    int64_t tap = rows.tap;
    for (int64_t y = rows.first; y <= rows.last; ++y, tap -= g.down) {
      int64_t weights = (tap * g.channels + channel) * g.columns + g.columns - 1 - columns.tap;
      for (int64_t x = columns.first; x <= columns.last; ++x, weights += g.right) {
        const int64_t position = y * g.out_width + x;
        lists_[position * most_ + count_[position]++] = weights << 8 | step;
      }
    }
  }

  int64_t most_;
  uint32_t* lists_;
  int32_t* count_;
};

// Some features: their weights and thresholds, and how many inputs can bring any of them above its threshold.
struct Features {
  const float* weights;
  const Lanes* limits;
  int64_t stride;
  int64_t enough;
};

// Lowers `when`, the steps of `kBlocks` x kLanes pooled neurons, to the steps at which neurons of one position fire.
template <int64_t kBlocks>
void fire(const Features& features, const uint32_t* input, const uint32_t* end, Steps* when) {
  if (end - input < features.enough) return;
  const uint32_t* checked = input + features.enough - 1;
  Lanes sums[kBlocks] = {};
  Steps first[kBlocks];
  Steps last = when[0];
  for (int64_t b = 0; b < kBlocks; ++b) {
    first[b] = when[b];
    last = first[b] > last ? first[b] : last;
  }
  uint32_t latest = 0;  // from here on nothing is earlier
  for (int64_t lane = 0; lane < kLanes; ++lane) latest = std::max<uint32_t>(latest, last[lane]);
  if (features.enough == 0 && (input == end || *input % 256 > 0)) {  // below a threshold of 0 without any input
    for (int64_t b = 0; b < kBlocks; ++b) first[b] = Lanes{} > features.limits[b] ? Steps{} : first[b];
  }
  for (; input < end && *input % 256 < latest; ++input) {
    const Lanes* gain = reinterpret_cast<const Lanes*>(features.weights + (*input >> 8) * features.stride);
    for (int64_t b = 0; b < kBlocks; ++b) sums[b] += gain[b];
    if (input < checked || (input + 1 < end && input[1] % 256 == *input % 256)) continue;
    const Steps now = Steps{} + static_cast<int32_t>(*input % 256);
    for (int64_t b = 0; b < kBlocks; ++b) {
      const Steps earlier = first[b] < now ? first[b] : now;
      first[b] = sums[b] > features.limits[b] ? earlier : first[b];
    }
  }
  for (int64_t b = 0; b < kBlocks; ++b) when[b] = first[b];
}

using Fire = void (*)(const Features&, const uint32_t*, const uint32_t*, Steps*);
constexpr Fire kFire[] = {fire<1>, fire<2>, fire<3>, fire<4>, fire<5>, fire<6>, fire<7>, fire<8>};

// The number of inputs below which no sum of weights exceeds the least threshold. Rounding never carries a sum of n
// weights <= 1 above n.
int64_t enough_inputs(const float* weights, int64_t rows, int64_t stride, int64_t size, const float* limits) {
  float most = 0, least = std::numeric_limits<float>::infinity();
  for (const float* row = weights; row < weights + rows * stride; row += stride)
    most = std::max(most, largest(row, size));
  for (int64_t f = 0; f < size; ++f) least = std::min(least, limits[f]);
  if (least < 0) return 0;
  // Above 1 rounding may carry a sum above n times the largest weight, hence the 1e-4.
  const double largest = most <= 1 ? 1 : most * (1 + 1e-4);
  return static_cast<int64_t>(std::min(std::floor(least / largest), 1e9)) + 1;
}

// `kernels.pool` of the latencies of `kernels.integrate_and_fire`.
void find_latencies(const Geometry& layer, const EventLayout& layout, const float* weights, const uint8_t* latency,
                    const Limits& thresholds, int32_t steps, const Pool& pool, uint8_t* result) {
  const int64_t stride = layout.stride, blocks = stride / kLanes, features = layer.features;
  const int64_t cells = pool.height * pool.width;
  const int64_t chunks = (blocks + kRegisters - 1) / kRegisters, at_once = (blocks + chunks - 1) / chunks;
  const Inputs inputs(layer, latency, steps);
  float* limits = thresholds.filled_up<8>(features, stride);
  int32_t* when = filled<9, int32_t>(cells * stride, steps);
  for (int64_t cell = 0; cell < cells; ++cell)  // there is no need to wait for features that fill up F
    std::fill(when + cell * stride + features, when + (cell + 1) * stride, 0);
  for (int64_t block = 0; block < blocks; block += at_once) {
    const int64_t count = std::min(at_once, blocks - block), from = block * kLanes;
    const int64_t size = std::min(count * kLanes, features - from);
    if (size <= 0) break;
    const int64_t enough = enough_inputs(weights + from, layer.synapses(), stride, size, limits + from);
    const Features some{weights + from, reinterpret_cast<Lanes*>(limits + from), stride, enough};
    const Fire fire = kFire[count - 1];
    for (int64_t cell = 0; cell < cells; ++cell) {
      Steps* pooled = reinterpret_cast<Steps*>(when + cell * stride + from);
      pool.in(cell, layer.out_height, layer.out_width, [&](int64_t position) {
        fire(some, inputs.begin(position), inputs.end(position), pooled);
      });
    }
  }
  turn(when, result, cells, stride, features);
}

ffi::Error latencies(Threads threads, Floats weights, Bytes latency, Floats threshold, ffi::Dictionary settings,
                     ffi::Result<Bytes> result) {
  const Batch batch(result, 3);
  const Geometry geometry = geometry_of(weights, latency, settings);
  const EventLayout layout(geometry);
  const EventWeights arranged(layout, batch, weights, threads);
  const Pool pool = pool_of(settings);
  return batch.each(threads, [&](int64_t i) {
    find_latencies(geometry, layout, arranged.of(i), batch.part(latency, 3, i).data, {batch.part(threshold, 1, i)},
                   number(settings, "steps"), pool, batch.part(*result, 3, i).data);
  });
}

}  // namespace
