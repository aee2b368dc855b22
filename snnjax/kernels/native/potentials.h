// Potentials that are known from sums of integers, exactly where that matters, and the learning of a winner.

#pragma once

#include <numeric>

#include "competition.h"
#include "integers.h"

namespace {

// The potentials of a layer's neurons on one image, known to within a margin.
class Potentials {
 public:
  Potentials(const IntegerLayer& layer, const Quantised& quantised)
      : layer_(layer), quantised_(quantised), reached_(layer.positions()),
        active_(layer.positions()), fired_(layer.positions()), room_(layer.positions()),
        sums_(layer.positions() * quantised.stride), totals_(sums_.size()), values_(sums_.size()),
        first_(layer.pixels() + 1), runs_(layer.taps() + 1), ceiling_(layer.positions()) {
    for (const int32_t pixel : layer.places)
      if (pixel >= 0) ++first_[pixel + 1];
    std::partial_sum(first_.begin(), first_.end(), first_.begin());
    seen_.resize(first_.back());
    std::vector<int64_t> next = first_;
    for (int64_t position = 0; position < layer.positions(); ++position)
      for (int64_t tap = 0; tap < layer.taps(); ++tap)
        if (const int64_t pixel = layer.pixel(position, tap); pixel >= 0)
          seen_[next[pixel]++] = position;
  }

  // No input has fired yet.
  void begin(const Inputs& inputs) {
    inputs_ = &inputs;
    const float largest = std::max(std::abs(quantised_.scale.lower), std::abs(quantised_.scale.top()));
    // A float32 potential is a sum of so many at most, one after the other, each rounded by 2^-24.
    const int64_t sums = layer_.taps() * (layer_.channels / (2 * kLanes) + layer_.channels % kLanes + 2) + 2 * kLanes;
    rounding_ = sums * 6e-8f * largest;
    half_ = 0.5f * quantised_.scale.step + 2 * rounding_;
    next_ = 0;
    std::fill(reached_.begin(), reached_.end(), 0);
    std::fill(active_.begin(), active_.end(), 0);
    std::fill(fired_.begin(), fired_.end(), 0);
    std::fill(ceiling_.begin(), ceiling_.end(), 0.0f);
    std::fill(room_.begin(), room_.end(), 0);  // of sums that hold anything
  }

  // All inputs up to a step reach the positions that see them.
  void arrive(int32_t step) {
    for (int64_t pixel = 0; pixel < layer_.pixels(); ++pixel)
      if (const int64_t count = inputs_->end(pixel, step) - inputs_->begin(pixel, next_))
        for (int64_t i = first_[pixel]; i < first_[pixel + 1]; ++i) reached_[seen_[i]] += count;
    next_ = step + 1;
  }

  // How many inputs have reached a position.
  int64_t reached(int64_t position) const { return reached_[position]; }

  // No potential of a position exceeds this once all that have reached it fire.
  float ceiling(int64_t position) const {
    return ceiling_[position] + upper_bound(reached_[position] - active_[position]);
  }

  // Inputs that have reached a position fire; its potentials, [stride], give or take its `margin`.
  float* look(int64_t position) {
    if (active_[position] < reached_[position]) fire(position);
    const int64_t from = position * quantised_.stride;
    const float base = quantised_.scale.lower * active_[position];
    if (!active_[position]) clear(position);
    for (int64_t i = from; i < from + quantised_.stride; ++i)
      values_[i] = (totals_[i] + sums_[i]) * quantised_.scale.step + base;
    ceiling_[position] = largest(position) + margin(position);
    return values_.data() + from;
  }

  const float* values(int64_t position) const { return values_.data() + position * quantised_.stride; }
  float margin(int64_t position) const { return half_ * active_[position]; }
  // An upper bound of the potentials of a position with so many inputs.
  float upper_bound(int64_t active) const { return active * (quantised_.scale.top() + half_); }

  // The exact potential of a neuron from inputs up to step `last`.
  float exact(int64_t feature, int64_t position, int32_t last) const {
    Lanes sums[2] = {};
    float rest = 0;
    const int64_t channels = layer_.channels;
    const Steps latest = Steps{} + last, all = Steps{} - 1;
    const Steps tail = kNumbers >= int32_t(kLanes - channels % kLanes);  // the last lanes that are not yet counted
    const float* rows = layer_.packed_rows(feature);
    for (int64_t tap = 0; tap < layer_.taps(); ++tap) {
      const int64_t pixel = layer_.pixel(position, tap);
      if (pixel < 0) continue;
      const float* weight = rows + tap * channels;
      const int64_t next = tap + 1;
      if (next < layer_.taps() && layer_.pixel(position, next) >= 0) prefetch(weight + channels, channels);
      const int32_t* when = inputs_->when(pixel);
      int64_t c = 0;
      auto add_up = [&](int64_t c, const Steps& counted, Lanes& sum) {
        const Lanes weights = *reinterpret_cast<const Lanes*>(weight + c);
        sum += counted & (*reinterpret_cast<const Steps*>(when + c) <= latest) ? weights : Lanes{};
      };
      for (; c + 2 * kLanes <= channels; c += 2 * kLanes) add_up(c, all, sums[0]), add_up(c + kLanes, all, sums[1]);
      if (c + kLanes <= channels) add_up(c, all, sums[0]), c += kLanes;
      // The last channels are a whole register too, which overlaps the one before. Together with candidates that are
      // found by registers, this brought an image from 0.063 to 0.048 ms (mozafari2018) and from 0.127 to 0.090
      // (deepr2024).
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
    // The likeliest neuron is summed first, so that fewer of the remaining neurons could still exceed `best`.
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

  const Inputs& inputs() const { return *inputs_; }

 private:
  void fire(int64_t position) {
    if (!active_[position]) clear(position);
    const int64_t taps = layer_.taps(), since = fired_[position], until = next_ - 1;
    const int32_t* pixels = layer_.places.data() + position * taps;
    Run* run = runs_.data();
    int64_t room = room_[position];
    for (int64_t tap = 0; tap < taps; ++tap) {
      if (pixels[tap] < 0) continue;
      const int32_t *channel = inputs_->begin(pixels[tap], since), *end = inputs_->end(pixels[tap], until);
      while (channel < end) {
        if (room == 0) add_runs(run, position), flush(position), run = runs_.data(), room = kMaxAdds;
        const int32_t* last = std::min<const int32_t*>(end, channel + room * kRowsPerAdd);
        // Inputs are collected as runs of a tap and then added up together. With inputs read ahead and updates that
        // compute addresses once, this brought an image of deepr2024 from 0.080 to 0.059 ms.
        *run++ = {channel, last, quantised_.row(tap)};
        room -= (last - channel + 1) / kRowsPerAdd;
        channel = last;
      }
    }
    add_runs(run, position);
    room_[position] = room, active_[position] = reached_[position], fired_[position] = next_;
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

  // Adds up the runs before `end`.
  void add_runs(const Run* end, int64_t position) {
    // All inputs of a position at a time, four blocks of features at a time. It is 5 to 10 % slower to go through a
    // layer block by block so that its integers stay in the first cache, and to go through it tap by tap takes 0.070
    // instead of 0.067 ms.
    for (int64_t block = 0; block < quantised_.blocks; block += 4) {
      uint16_t* sums = sums_.data() + position * quantised_.stride + block * kBlock;
      with_known<1, 2, 3, 4>(quantised_.blocks - block, [&]<int64_t kBlocks>() {
        add<kBlocks>(runs_.data(), end, block * kBlock, quantised_.stride, sums);
      });
    }
  }

  const IntegerLayer& layer_;
  const Quantised& quantised_;
  const Inputs* inputs_ = nullptr;
  int32_t next_;  // the first step whose inputs have not arrived
  std::vector<int64_t> reached_, active_;  // [positions], inputs that have reached a position, and that have fired
  std::vector<int32_t> fired_;  // [positions], the first step whose inputs have not fired
  std::vector<int64_t> room_;  // [positions], sums that `sums_` can still take
  std::vector<uint16_t> sums_;  // [positions, stride]
  std::vector<float> totals_, values_;  // [positions, stride]
  std::vector<int64_t> seen_;  // by pixel: the positions that see it
  std::vector<int64_t> first_;  // [pixels + 1], where the entries of a pixel begin
  std::vector<Run> runs_;  // of one position, the inputs that fire now
  std::vector<float> ceiling_;  // [positions], of the potentials when they were last looked at
  float half_, rounding_;  // how far the potentials of integers and of floats may be off, for each input
};

// Moves the weights of a neuron that has won at step `last`, and their integers.
void update(const IntegerLayer& layer, Quantised& quantised, const Inputs& inputs, const Neuron& won, int32_t last,
            const Rule& rule) {
  static thread_local std::vector<int32_t> silent;
  silent.assign(layer.channels + kLanes, std::numeric_limits<int32_t>::max());
  const Lanes gain = Lanes{} + rule.gain, loss = Lanes{} + rule.loss;
  const Lanes lower = Lanes{} + rule.lower, upper = Lanes{} + rule.upper;
  const Scale scale = quantised.scale;
  const int64_t stride = quantised.stride;
  const Steps latest = Steps{} + last, all = Steps{} - 1, tail = kNumbers >= int32_t(kLanes - layer.channels % kLanes);
  float* rows = layer.packed_rows(won.feature);
  for (int64_t tap = 0; tap < layer.taps(); ++tap) {
    const int64_t pixel = layer.pixel(won.position, tap);
    float* weights = rows + tap * layer.channels;
    uint8_t* values = &quantised.at(won.feature, tap, 0);
    if (tap + 1 < layer.taps()) prefetch(weights + layer.channels, layer.channels);
    const bool used = layer.used[tap];
    const int32_t* when = pixel < 0 ? silent.data() : inputs.when(pixel);
    auto move = [&](Lanes& weight, int64_t c, const Steps& counted) {
      const Lanes old = weight;
      const Lanes change = *reinterpret_cast<const Steps*>(when + c) <= latest ? gain : loss;
      weight = counted ? moved(old, change, lower, upper, rule.stabiliser) : old;
      if (!used) return;
      const Steps now = scale.of(weight);
      each_lane(now != scale.of(old), [&](int64_t lane) { values[(c + lane) * stride] = now[lane]; });
    };
    auto lanes = [&](int64_t c) -> Lanes& { return *reinterpret_cast<Lanes*>(weights + c); };
    int64_t c = 0;
    for (; c + kLanes <= layer.channels; c += kLanes) move(lanes(c), c, all);
    if (c == layer.channels) continue;
    if (const int64_t last_ones = layer.channels - kLanes; last_ones >= 0) {
      move(lanes(last_ones), last_ones, tail);
    } else {
      Lanes few = {};
      std::memcpy(&few, weights, 4 * layer.channels);
      move(few, 0, kNumbers < int32_t(layer.channels));
      std::memcpy(weights, &few, 4 * layer.channels);
    }
  }
}

// Moves the weights of all winners.
void update_all(const IntegerLayer& layer, Quantised& quantised, const Inputs& inputs, const std::vector<Winner>& won,
                const Rule& rule) {
  for (const auto& [neuron, step] : won) update(layer, quantised, inputs, neuron, step, rule);
  if (!won.empty()) quantised.fit_unbounded(layer);
}

// The neurons of a layer in a `Competition`, by potentials of integers: which one of a position is the strongest is found
// out when that matters.
class IntegerRace {
 public:
  IntegerRace(const IntegerLayer& layer, const Quantised& quantised, float threshold)
      : layer_(layer), potentials_(layer, quantised), threshold_(threshold), fired_(layer.positions()) {}

  void begin(const Inputs& inputs) {
    potentials_.begin(inputs);
    std::fill(fired_.begin(), fired_.end(), 0);
  }

  Potentials& potentials() { return potentials_; }

  const Geometry& layer() const { return layer_; }
  void arrive(int32_t step) { potentials_.arrive(step); }
  // The bound from the last look, plus the most that later inputs can add, spares most looks: STDP takes 0.024 instead
  // of 0.027 ms for an image in a second layer, and 0.043 instead of 0.061 in a third.
  bool may_spike(int64_t position) const { return !fired_[position] && potentials_.ceiling(position) > threshold_; }

  bool spike(int64_t position, int32_t step, Neuron& neuron) {
    potentials_.look(position);
    const float most = potentials_.ceiling(position), least = most - 2 * potentials_.margin(position);
    if (!(most > threshold_)) return false;
    neuron = {most, kUnknown, position};
    if (!(least > threshold_)) {
      resolve(step, neuron);
      if (!(neuron.potential > threshold_)) return false;
    }
    fired_[position] = 1;
    return true;
  }

  void resolve(int32_t step, Neuron& neuron) const {
    neuron = {threshold_, layer_.features, neuron.position};
    potentials_.strongest(neuron.position, 0, layer_.features, step, neuron);
  }

 private:
  const IntegerLayer& layer_;
  Potentials potentials_;
  const float threshold_;
  std::vector<uint8_t> fired_;  // [positions], whether any neuron has fired
};

}  // namespace
