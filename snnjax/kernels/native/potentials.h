// Potentials that are known from sums of integers, exactly where that matters, and what a winner learns.

#pragma once

#include <numeric>

#include "integers.h"

namespace {

// A neuron, and its potential.
struct Neuron {
  float potential;
  int64_t feature, position;

  // The stronger one, then that of the lower feature, then position.
  bool precedes(const Neuron& other) const {
    if (potential != other.potential) return potential > other.potential;
    return feature != other.feature ? feature < other.feature : position < other.position;
  }
};

// The potentials of a layer's neurons on one image, known to within a margin.
class Potentials {
 public:
  Potentials(const Layer& layer, const Quantised& quantised, int32_t steps)
      : layer_(layer), quantised_(quantised), inputs_(layer, steps), active_(layer.positions()),
        room_(layer.positions()), sums_(layer.positions() * quantised.stride), totals_(sums_.size()),
        values_(sums_.size()), first_(layer.pixels() + 1), capacity_(layer.taps() * layer.channels + 1),
        waiting_(layer.positions() * capacity_), count_(layer.positions()), ceiling_(layer.positions()) {
    for (const int32_t pixel : layer.places)
      if (pixel >= 0) ++first_[pixel + 1];
    std::partial_sum(first_.begin(), first_.end(), first_.begin());
    seen_.resize(first_.back());
    std::vector<int64_t> next = first_;
    for (int64_t position = 0; position < layer.positions(); ++position)
      for (int64_t tap = 0; tap < layer.taps(); ++tap)
        if (const int64_t pixel = layer.pixel(position, tap); pixel >= 0)
          seen_[next[pixel]++] = {int32_t(position), quantised.place(tap, 0)};
  }

  // No input has fired yet.
  void begin(const uint8_t* latency) {
    inputs_.read(layer_, latency);
    const float largest = std::max(std::abs(quantised_.lower), std::abs(quantised_.top()));
    // A float32 potential is a sum of so many at most, one after the other, each rounded by 2^-24.
    const int64_t sums = layer_.taps() * (layer_.channels / (2 * kLanes) + layer_.channels % kLanes + 2) + 2 * kLanes;
    rounding_ = sums * 6e-8f * largest;
    half_ = 0.5f * quantised_.step + 2 * rounding_;
    std::fill(active_.begin(), active_.end(), 0);
    std::fill(count_.begin(), count_.end(), 0);
    std::fill(ceiling_.begin(), ceiling_.end(), 0.0f);
    std::fill(room_.begin(), room_.end(), 0);  // of sums that hold anything
  }

  // The inputs of a step reach all positions that see them.
  void arrive(int32_t step) {
    const int32_t stride = quantised_.stride;
    for (int64_t pixel = 0; pixel < layer_.pixels(); ++pixel) {
      const int32_t* end = inputs_.end(pixel, step);
      const auto& [seen, last] = std::pair(seen_.data() + first_[pixel], seen_.data() + first_[pixel + 1]);
      for (const int32_t* channel = inputs_.begin(pixel, step); channel < end; ++channel)
        for (const Seen* each = seen; each < last; ++each)
          waiting_[each->position * capacity_ + count_[each->position]++] = each->place + *channel * stride;
    }
  }

  // The inputs of a step reach one position.
  void arrive_at(int64_t position, int32_t step) {
    int32_t *place = waiting_.data() + position * capacity_ + count_[position], base = 0;
    const int32_t stride = quantised_.stride, of_tap = quantised_.place(1, 0);
    for (int64_t tap = 0; tap < layer_.taps(); ++tap, base += of_tap) {
      const int64_t pixel = layer_.pixel(position, tap);
      if (pixel < 0) continue;
      const int32_t* end = inputs_.end(pixel, step);
      for (const int32_t* channel = inputs_.begin(pixel, step); channel < end; ++channel)
        *place++ = base + *channel * stride;
    }
    count_[position] = place - waiting_.data() - position * capacity_;
  }

  // No potential of a position exceeds this once all that have reached it fire.
  float ceiling(int64_t position) const { return ceiling_[position] + upper_bound(count_[position]); }

  // Those that have reached a position fire; its potentials, [stride], give or take its `margin`.
  float* look(int64_t position) {
    if (count_[position]) fire(position);
    const int64_t from = position * quantised_.stride;
    const float base = quantised_.lower * active_[position];
    if (!active_[position]) clear(position);
    for (int64_t i = from; i < from + quantised_.stride; ++i)
      values_[i] = (totals_[i] + sums_[i]) * quantised_.step + base;
    ceiling_[position] = largest(position) + margin(position);
    return values_.data() + from;
  }

  // How many inputs of a position fire at a step.
  int64_t count(int64_t position, int32_t step) const {
    int64_t found = 0;
    for (int64_t tap = 0; tap < layer_.taps(); ++tap)
      if (const int64_t pixel = layer_.pixel(position, tap); pixel >= 0)
        found += inputs_.end(pixel, step) - inputs_.begin(pixel, step);
    return found;
  }

  const float* values(int64_t position) const { return values_.data() + position * quantised_.stride; }
  float margin(int64_t position) const { return half_ * active_[position]; }
  // What no potential of a position with so many inputs exceeds.
  float upper_bound(int64_t active) const { return active * (quantised_.top() + half_); }

  // The exact potential of a neuron from inputs up to step `last`.
  float exact(int64_t feature, int64_t position, int32_t last) const {
    Lanes sums[2] = {};
    float rest = 0;
    const int64_t channels = layer_.channels;
    const Steps latest = Steps{} + last, all = Steps{} - 1;
    const Steps tail = kNumbers >= int32_t(kLanes - channels % kLanes);  // of the last lanes, those not yet counted
    for (int64_t tap = 0; tap < layer_.taps(); ++tap) {
      const int64_t pixel = layer_.pixel(position, tap);
      if (pixel < 0) continue;
      const float* weight = layer_.row(tap, feature);
      const int32_t* when = inputs_.when(pixel);
      int64_t c = 0;
      auto add_up = [&](int64_t c, const Steps& counted, Lanes& sum) {
        const Lanes weights = *reinterpret_cast<const Lanes*>(weight + c);
        sum += counted & (*reinterpret_cast<const Steps*>(when + c) <= latest) ? weights : Lanes{};
      };
      for (; c + 2 * kLanes <= channels; c += 2 * kLanes) add_up(c, all, sums[0]), add_up(c + kLanes, all, sums[1]);
      if (c + kLanes <= channels) add_up(c, all, sums[0]), c += kLanes;
      if (c < channels && channels >= kLanes) add_up(channels - kLanes, tail, sums[1]), c = channels;
      for (; c < channels; ++c) rest += when[c] <= last ? weight[c] : 0.0f;
    }
    const Lanes sum = sums[0] + sums[1];
    for (int64_t lane = 0; lane < kLanes; ++lane) rest += sum[lane];
    return rest;
  }

  // The largest potential of a position, give or take its `margin`.
  float largest(int64_t position) const { return ::largest(values(position), layer_.features); }

  // Puts the strongest neuron of features [first, end) at a position into `best` if it precedes that.
  void strongest(int64_t position, int64_t first, int64_t end, int32_t last, Neuron& best) const {
    const float* potential = values(position);
    auto compare = [&](int64_t f) {
      const Neuron one = {exact(f, position, last), f, position};
      if (one.precedes(best)) best = one;
    };
    const float most = ::largest(potential + first, end - first);
    const float enough = margin(position) + rounding_ * active_[position];
    if (most == kSilent || !(most + enough >= best.potential)) return;
    const int64_t likely = std::find(potential + first, potential + end, most) - potential;
    compare(likely);
    auto compare_others = [&](int64_t f) {
      if (potential[f] + enough >= best.potential && f != likely) compare(f);
    };
    int64_t f = first;
    for (; f + kLanes <= end; f += kLanes)
      each_lane(*reinterpret_cast<const Lanes*>(potential + f) + enough >= best.potential,
                [&](int64_t lane) { compare_others(f + lane); });
    for (; f < end; ++f) compare_others(f);
  }

  const Inputs& inputs() const { return inputs_; }

 private:
  void fire(int64_t position) {
    if (!active_[position]) clear(position);
    active_[position] += count_[position];
    int32_t *at = waiting_.data() + position * capacity_, *last = at + count_[position];
    if (count_[position] % kRowsPerAdd) *last++ = quantised_.place(0, layer_.channels);  // a row of zeros
    while (at < last) {
      if (!room_[position]) flush(position);
      const int32_t* end = std::min<const int32_t*>(last, at + room_[position] * kRowsPerAdd);
      add_rows(at, end, position);
      room_[position] -= (end - at) / kRowsPerAdd;
      at += end - at;
    }
    count_[position] = 0;
  }

  void clear(int64_t position) {
    const int64_t from = position * quantised_.stride;
    std::fill_n(totals_.data() + from, quantised_.stride, 0.0f);
    std::fill_n(sums_.data() + from, quantised_.stride, 0);
    room_[position] = kMaxAdds;
  }

  void flush(int64_t position) {
    const int64_t from = position * quantised_.stride;
    for (int64_t i = from; i < from + quantised_.stride; ++i) totals_[i] += sums_[i], sums_[i] = 0;
    room_[position] = kMaxAdds;
  }

  void add_rows(const int32_t* places, const int32_t* end, int64_t position) {
    for (int64_t block = 0; block < quantised_.blocks; block += 4) {
      const uint8_t* rows = quantised_.begin() + block * kBlock;
      uint16_t* sums = sums_.data() + position * quantised_.stride + block * kBlock;
      switch (std::min<int64_t>(4, quantised_.blocks - block)) {
        case 1: add<1>(rows, places, end, sums); break;
        case 2: add<2>(rows, places, end, sums); break;
        case 3: add<3>(rows, places, end, sums); break;
        default: add<4>(rows, places, end, sums);
      }
    }
  }

  const Layer& layer_;
  const Quantised& quantised_;
  Inputs inputs_;
  std::vector<int64_t> active_, room_;  // [positions], inputs that have fired, and sums that `sums_` can still take
  std::vector<uint16_t> sums_;  // [positions, stride]
  std::vector<float> totals_, values_;  // [positions, stride]
  struct Seen {
    int32_t position, place;
  };
  std::vector<Seen> seen_;  // by pixel: the positions that see it, and the places of their taps
  std::vector<int64_t> first_;  // [pixels + 1], where those of a pixel begin
  int64_t capacity_;
  std::vector<int32_t> waiting_, count_;  // [positions, capacity], places of inputs that reach a position; how many
  std::vector<float> ceiling_;  // [positions], of the potentials when they were last looked at
  float half_, rounding_;  // how far the potentials of integers and of floats may be off, for each input
};

// How weights move.
struct Rule {
  float gain, loss, lower, upper;
  bool stabiliser;
};

// Moves the weights of a neuron that has won at step `last`, and their integers.
void update(const Layer& layer, Quantised& quantised, const Inputs& inputs, const Neuron& won, int32_t last,
            const Rule& rule) {
  static thread_local std::vector<int32_t> silent;
  silent.assign(layer.channels + kLanes, std::numeric_limits<int32_t>::max());
  const Lanes gain = Lanes{} + rule.gain, loss = Lanes{} + rule.loss;
  const Lanes lower = Lanes{} + rule.lower, upper = Lanes{} + rule.upper;
  const Steps latest = Steps{} + last, all = Steps{} - 1, tail = kNumbers >= int32_t(kLanes - layer.channels % kLanes);
  for (int64_t tap = 0; tap < layer.taps(); ++tap) {
    const int64_t pixel = layer.pixel(won.position, tap);
    float* weights = layer.row(tap, won.feature);
    const int32_t* when = pixel < 0 ? silent.data() : inputs.when(pixel);
    auto move = [&](Lanes& weight, int64_t c, const Steps& counted) {
      const Lanes old = weight;
      Lanes change = *reinterpret_cast<const Steps*>(when + c) <= latest ? gain : loss;
      if (rule.stabiliser) change *= (old - lower) * (upper - old);
      const Lanes above = old + change > lower ? old + change : lower, moved = above < upper ? above : upper;
      weight = counted ? moved : old;
      const Steps now = quantised.of(weight);
      uint8_t* value = &quantised.at(won.feature, tap, c);
      each_lane(now != quantised.of(old), [&](int64_t lane) { value[lane * quantised.stride] = now[lane]; });
    };
    auto at = [&](int64_t c) -> Lanes& { return *reinterpret_cast<Lanes*>(weights + c); };
    int64_t c = 0;
    for (; c + kLanes <= layer.channels; c += kLanes) move(at(c), c, all);
    if (c == layer.channels) continue;
    if (const int64_t last_ones = layer.channels - kLanes; last_ones >= 0) {
      move(at(last_ones), last_ones, tail);
    } else {
      Lanes few = {};
      std::memcpy(&few, weights, 4 * layer.channels);
      move(few, 0, kNumbers < int32_t(layer.channels));
      std::memcpy(weights, &few, 4 * layer.channels);
    }
  }
}

}  // namespace
