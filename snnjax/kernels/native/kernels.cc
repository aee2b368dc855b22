// Kernels of single stimuli, event by event: only inputs that fire cost anything.
//
// Latencies are uint8, T where silent; padding never fires. Python has checked all buffers.
//
// Kernels with a header of their own are compiled here too: a source more takes a second to compile, however short it is,
// because of what it includes. This way two cores also share the sources evenly.

#include "events.h"
#include "latencies.h"
#include "plasticity.h"
#include "ramp.h"

namespace {

ffi::Error winners(Threads threads, Floats weights, Bytes latency, Floats threshold, Integers radius,
                   ffi::Dictionary settings, ffi::Result<Integers> feature, ffi::Result<Integers> row,
                   ffi::Result<Integers> column, ffi::Result<Bytes> when) {
  const Batch batch(feature, 1);
  const Geometry geometry = geometry_of(weights, latency, settings);
  const EventLayout layout(geometry);
  const EventWeights arranged(layout, batch, weights, threads);
  const int32_t steps = number(settings, "steps");
  return batch.each(threads, [&](int64_t i) {
    EventLayer layer(geometry, layout, arranged.of(i));
    const Limits limits{batch.part(threshold, 1, i)};
    EventRace race(layer, limits);
    race.begin(batch.part(latency, 3, i).data);
    const IntegerPart features = batch.part(*feature, 1, i);
    const int64_t k = features.element_count();
    int32_t *rows = batch.part(*row, 1, i).data, *columns = batch.part(*column, 1, i).data;
    uint8_t* steps_of = batch.part(*when, 1, i).data;
    std::fill_n(features.data, k, -1);
    std::fill_n(rows, k, 0);
    std::fill_n(columns, k, 0);
    std::fill_n(steps_of, k, steps);
    Competition competition(race, k, *batch.part(radius, 1, i).data);
    int64_t place = 0;
    for (const auto& [neuron, step] : competition.find(steps)) {
      features.data[place] = neuron.feature;
      rows[place] = neuron.position / geometry.out_width;
      columns[place] = neuron.position % geometry.out_width;
      steps_of[place++] = step;
    }
  });
}

// When each neuron first crosses its threshold, its potential then, and before that step; where silent, the last ones.
void follow(EventLayer& layer, const Limits& limits, int32_t steps, const BytePart& when, const FloatPart& potential,
            const FloatPart& before) {
  limits.begin(layer);
  const int64_t features = layer.geometry().features, positions = layer.geometry().positions();
  const int64_t blocks = layer.stride / kLanes, size = positions * layer.stride;
  const Lanes* threshold_of = reinterpret_cast<const Lanes*>(limits.filled_up<4>(features, layer.stride));
  int32_t* first = filled<2, int32_t>(size, steps);
  float *latest = filled<5, float>(size, 0), *earlier = filled<6, float>(size, 0);
  for (int32_t step = 0; step < steps; ++step) {
    layer.advance(step);
    const Steps now = Steps{} + step, never = Steps{} + steps;
    for (int64_t position = 0; position < positions; ++position) {
      if (layer.state[position] != EventLayer::kTouched) continue;
      layer.state[position] = EventLayer::kQuiet;
      const int64_t offset = position * blocks;
      const Lanes* sums = reinterpret_cast<const Lanes*>(layer.potential) + offset;
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
  turn(first, when.data, positions, layer.stride, features);
  turn(latest, potential.data, positions, layer.stride, features);
  turn(earlier, before.data, positions, layer.stride, features);
}

ffi::Error timed_spikes(Threads threads, Floats weights, Bytes latency, Floats threshold, ffi::Dictionary settings,
                        ffi::Result<Bytes> when, ffi::Result<Floats> potential, ffi::Result<Floats> before) {
  const Batch batch(when, 3);
  const Geometry geometry = geometry_of(weights, latency, settings);
  const EventLayout layout(geometry);
  const EventWeights arranged(layout, batch, weights, threads);
  return batch.each(threads, [&](int64_t i) {
    EventLayer layer(geometry, layout, arranged.of(i));
    layer.begin(batch.part(latency, 3, i).data);
    follow(layer, {batch.part(threshold, 1, i)}, number(settings, "steps"), batch.part(*when, 3, i),
           batch.part(*potential, 3, i), batch.part(*before, 3, i));
  });
}

// The potential of each neuron after the last step.
ffi::Error potentials(Threads threads, Floats weights, Bytes latency, ffi::Dictionary settings,
                      ffi::Result<Floats> result) {
  const Batch batch(result, 3);
  const Geometry geometry = geometry_of(weights, latency, settings);
  const EventLayout layout(geometry);
  const EventWeights arranged(layout, batch, weights, threads);
  return batch.each(threads, [&](int64_t i) {
    EventLayer layer(geometry, layout, arranged.of(i));
    layer.begin(batch.part(latency, 3, i).data);
    for (int64_t step = 0; step < number(settings, "steps"); ++step) layer.advance(step);
    turn(layer.potential, batch.part(*result, 3, i).data, geometry.positions(), layer.stride, geometry.features);
  });
}

// The weights after the winners have learned, in place where XLA allows; all are clipped if any neuron has won.
ffi::Error stdp(Threads threads, Floats weights, Bytes latency, Integers feature, Integers row, Integers column,
                Integers when, Floats rates, Floats bounds, ffi::Dictionary settings, ffi::Result<Floats> result) {
  const Batch batch(result, 4);
  const Geometry layer = geometry_of(weights, latency, settings);
  const int32_t last = number(settings, "steps") - 1;
  const bool stabiliser = flag(settings, "stabiliser");
  keep(weights, result);
  return batch.each(threads, [&](int64_t i) {
    float* learned = batch.part(*result, 4, i).data;
    const uint8_t* stimulus = batch.part(latency, 3, i).data;
    const IntegerPart features = batch.part(feature, 1, i);
    const int32_t *rows = batch.part(row, 1, i).data, *columns = batch.part(column, 1, i).data;
    const int32_t* steps = batch.part(when, 1, i).data;
    const float *rate = batch.part(rates, 1, i).data, *bound = batch.part(bounds, 1, i).data;
    const Rule rule = {rate[0], rate[1], bound[0], bound[1], stabiliser};
    bool any = false;
    for (int64_t place = 0; place < features.element_count(); ++place) {
      const int64_t won = features.data[place];
      any |= won >= 0;
      // Features beyond the last learn nothing, as by XLA. Here they would write behind the weights.
      if (won < 0 || won >= layer.features) continue;
      float* of_feature = learned + won * layer.synapses();
      // A winner may be silent, at step T, as silent inputs are: these must not be causal to it.
      learn_feature(layer, of_feature, stimulus, rows[place], columns[place], std::min(steps[place], last), rule);
    }
    if (any) clip(learned, layer.size(), rule.lower, rule.upper);
  });
}

// Gives the values their latencies, `bin` of them to a step, from `step` to before `last`; the least keys come first.
void share(uint64_t* first, uint64_t* end, int64_t bin, int64_t step, int64_t last, uint8_t* latency) {
  if (last - step == 1) {
    for (; first != end; ++first) latency[*first & 0xffffffffu] = step;
    return;
  }
  // The order within a step does not matter, so that bins are split in halves instead of sorted.
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

SNNJAX_KERNEL(winners)
SNNJAX_KERNEL(timed_spikes)
SNNJAX_KERNEL(potentials)
SNNJAX_KERNEL(stdp)
SNNJAX_KERNEL(rank_order)
SNNJAX_KERNEL(latencies)
SNNJAX_KERNEL(ramp)
