// Layers whose weights are known as integers of 7 bits, which bound every potential.
//
// The weights that one input adds to the features lie side by side as bytes, and many of them are added up at once;
// only the few neurons that matter are added up in floats. Weights are (kh, kw, F, C) float32.

#pragma once

#include <cmath>
#include <string>
#include <type_traits>
#include <utility>

#include "common.h"

namespace {

constexpr int64_t kBlock = 64;  // features whose sums are added up side by side
constexpr int64_t kRowsPerAdd = 2;  // bytes that can be added up without overflow
constexpr int kLevels = 128;
constexpr int64_t kMaxAdds = 256;  // sums of kRowsPerAdd bytes that 16 bits hold
constexpr float kSilent = -std::numeric_limits<float>::infinity();

typedef uint8_t Octets __attribute__((vector_size(kBlock), aligned(1), may_alias));
typedef uint16_t Halves __attribute__((vector_size(kBlock), aligned(1), may_alias));
typedef int8_t Flags __attribute__((vector_size(kLanes)));

struct Layer {
  float* weights;  // [kh, kw, F, C]
  int64_t rows, columns, features, channels, height, width;
  int64_t above, left, down, right;  // padding and stride
  int32_t time_steps;
  int64_t out_height = (height + 2 * above - rows) / down + 1, out_width = (width + 2 * left - columns) / right + 1;
  std::vector<int32_t> places;  // [positions, taps], the pixel where each tap lies, -1 on padding

  // On maps of `height` x `width`; the names of its padding and stride begin with `name` in the settings.
  Layer(float* weights, const Floats& shape, const ffi::Dictionary& settings, std::string name, int64_t height,
        int64_t width)
      : weights(weights), rows(shape.dimensions()[0]), columns(shape.dimensions()[1]), features(shape.dimensions()[2]),
        channels(shape.dimensions()[3]), height(height), width(width),
        above(number(settings, (name + "above").c_str())), left(number(settings, (name + "left").c_str())),
        down(number(settings, (name + "down").c_str())), right(number(settings, (name + "right").c_str())),
        time_steps(number(settings, "steps")) {
    for (int64_t position = 0; position < positions(); ++position)
      for (int64_t tap = 0; tap < taps(); ++tap) {
        const int64_t y = position / out_width * down - above + tap / columns;
        const int64_t x = position % out_width * right - left + tap % columns;
        places.push_back(y >= 0 && y < height && x >= 0 && x < width ? y * width + x : -1);
      }
  }

  int64_t positions() const { return out_height * out_width; }
  int64_t taps() const { return rows * columns; }
  int64_t pixels() const { return height * width; }
  int64_t inputs() const { return channels * pixels(); }
  float* row(int64_t tap, int64_t feature) const { return weights + (tap * features + feature) * channels; }
  const float* end() const { return row(taps(), 0); }

  // Where a tap of a position lies, -1 on padding.
  int64_t pixel(int64_t position, int64_t tap) const { return places[position * taps() + tap]; }
};

// The inputs of one image that fire.
class Inputs {
 public:
  // `steps`: 1 if it does not matter when they fire, otherwise all.
  Inputs(const Layer& layer, int32_t steps)
      : steps_(steps), channels_(layer.channels), when_(layer.inputs() + kLanes), fired_(layer.channels + 1),
        channel_(layer.inputs()), end_(layer.pixels() * steps + 1) {}

  void read(const Layer& layer, const uint8_t* latency) {
    const int64_t pixels = layer.pixels();
    for (int64_t c = 0; c < channels_; ++c)
      for (int64_t p = 0; p < pixels; ++p) when_[p * channels_ + c] = latency[c * pixels + p];
    int32_t total = 0;
    for (int64_t p = 0; p < pixels; ++p) {
      const int32_t* when = when_.data() + p * channels_;
      int32_t count = 0;
      for (int32_t c = 0; c < channels_; ++c) {
        fired_[count] = c;
        count += when[c] < layer.time_steps;
      }
      total = steps_ == 1 ? copy(p, count, total) : sort(p, when, count, total);
    }
  }

  // When the inputs of a pixel fire, and kLanes more.
  const int32_t* when(int64_t pixel) const { return when_.data() + pixel * channels_; }
  // The channels of a pixel that fire at a step.
  const int32_t* begin(int64_t pixel, int32_t step) const { return channel_.data() + end_[pixel * steps_ + step]; }
  const int32_t* end(int64_t pixel, int32_t step) const { return channel_.data() + end_[pixel * steps_ + step + 1]; }

 private:
  int32_t copy(int64_t pixel, int32_t count, int32_t total) {
    std::copy_n(fired_.data(), count, channel_.data() + total);
    return end_[pixel + 1] = total + count;
  }

  int32_t sort(int64_t pixel, const int32_t* when, int32_t count, int32_t total) {
    int32_t* end = end_.data() + pixel * steps_ + 1;
    std::fill_n(end, steps_, 0);
    for (int32_t i = 0; i < count; ++i) ++end[when[fired_[i]]];
    int32_t place[256];
    for (int32_t step = 0; step < steps_; ++step) {
      place[step] = total;
      total += end[step];
      end[step] = total;
    }
    for (int32_t i = 0; i < count; ++i) channel_[place[when[fired_[i]]]++] = fired_[i];
    return total;
  }

  int32_t steps_;
  int64_t channels_;
  std::vector<int32_t> when_;  // [pixels, C]
  std::vector<int32_t> fired_;  // of one pixel
  std::vector<int32_t> channel_, end_;  // channels by pixel and step, and where each step ends, after a 0
};

// The least and the largest weight.
std::pair<float, float> range(const Layer& layer) {
  const float *at = layer.weights, *end = layer.end();
  Lanes least = Lanes{} + *at, most = least;
  for (; at + kLanes <= end; at += kLanes) {
    const Lanes& here = *reinterpret_cast<const Lanes*>(at);
    least = here < least ? here : least;
    most = here > most ? here : most;
  }
  std::pair<float, float> found = {least[0], most[0]};
  auto widen = [&](float low, float high) { found = {std::min(found.first, low), std::max(found.second, high)}; };
  for (int64_t lane = 1; lane < kLanes; ++lane) widen(least[lane], most[lane]);
  for (; at < end; ++at) widen(*at, *at);
  return found;
}

// The weights as integers: weight = lower + step * integer, give or take half a step.
class Quantised {
 public:
  int64_t blocks, stride;  // of features
  float lower, step, inverse;

  // Of weights that should lie between `low` and `high`, but need not.
  explicit Quantised(const Layer& layer, float low = -kSilent, float high = kSilent)
      : blocks((layer.features + kBlock - 1) / kBlock), stride(blocks * kBlock), tap_((layer.channels + 1) * stride),
        values_(layer.taps() * tap_ + kBlock) {
    begin_ = values_.data() + -reinterpret_cast<uintptr_t>(values_.data()) % kBlock;
    const auto [least, most] = range(layer);
    fill(layer, std::min(low, least), std::max(high, most));
  }

  // After neurons of the layer have learned: all weights lie within these bounds from then on.
  void bound(const Layer& layer, float low, float high) {
    if (low <= lower && highest_ <= high) return;
    for (float* weight = layer.weights; weight < layer.end(); ++weight) *weight = std::clamp(*weight, low, high);
    fill(layer, low, high);
  }
  float top() const { return lower + step * (kLevels - 1); }
  int32_t of(float weight) const { return static_cast<int32_t>((weight - lower) * inverse + 0.5f); }
  Steps of(const Lanes& weights) const { return __builtin_convertvector((weights - lower) * inverse + 0.5f, Steps); }

  const uint8_t* begin() const { return begin_; }
  int32_t place(int64_t tap, int64_t channel) const { return tap * tap_ + channel * stride; }
  // Even and odd bytes of a block are added up apart: each of these are neighbouring features.
  uint8_t& at(int64_t feature, int64_t tap, int64_t channel) {
    const int64_t f = feature % kBlock, half = kBlock / 2;
    return begin_[place(tap, channel) + feature / kBlock * kBlock + 2 * (f % half) + f / half];
  }

 private:
  void fill(const Layer& layer, float low, float high) {
    lower = low, highest_ = high, step = (high - low) / (kLevels - 1), inverse = step > 0 ? 1 / step : 0;
    for (int64_t tap = 0; tap < layer.taps(); ++tap)
      for (int64_t c = 0; c < layer.channels; c += kLanes) {
        const int64_t count = std::min(kLanes, layer.channels - c);
        for (int64_t f = 0; f < layer.features; ++f) {
          Lanes weights = {};
          std::memcpy(&weights, layer.row(tap, f) + c, 4 * count);
          const Steps found = of(weights);
          uint8_t* value = &at(f, tap, c);
          for (int64_t lane = 0; lane < count; ++lane) value[lane * stride] = found[lane];
        }
      }
  }

  float highest_;
  int64_t tap_;
  std::vector<uint8_t> values_;  // [taps, C + 1, stride], the last row of a tap 0
  uint8_t* begin_;  // where a line of the cache begins
};

// Adds up rows of kBlocks blocks, a multiple of kRowsPerAdd; sums of even and of odd bytes apart.
template <int kBlocks>
void add(const uint8_t* rows, const int32_t* places, const int32_t* end, uint16_t* sums) {
  Halves* of_block = reinterpret_cast<Halves*>(sums);
  Halves even[kBlocks], odd[kBlocks];
  for (int b = 0; b < kBlocks; ++b) even[b] = of_block[2 * b], odd[b] = of_block[2 * b + 1];
  for (; places < end; places += kRowsPerAdd) {
    const Octets* first = reinterpret_cast<const Octets*>(rows + places[0]);
    const Octets* second = reinterpret_cast<const Octets*>(rows + places[1]);
    for (int b = 0; b < kBlocks; ++b) {
      const Halves both = reinterpret_cast<Halves>(first[b] + second[b]);
      even[b] += both & 0xff;
      odd[b] += both >> 8;
    }
  }
  for (int b = 0; b < kBlocks; ++b) of_block[2 * b] = even[b], of_block[2 * b + 1] = odd[b];
}

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
        values_(sums_.size()), most_(layer.taps() * layer.channels + 1), waiting_(layer.positions() * most_),
        count_(layer.positions()) {
    for (int64_t pixel = 0; pixel < layer.pixels(); ++pixel) {
      first_.push_back(seen_.size());
      for (int64_t position = 0; position < layer.positions(); ++position)
        for (int64_t tap = 0; tap < layer.taps(); ++tap)
          if (layer.pixel(position, tap) == pixel) seen_.push_back({int32_t(position), quantised.place(tap, 0)});
    }
    first_.push_back(seen_.size());
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
          waiting_[each->position * most_ + count_[each->position]++] = each->place + *channel * stride;
    }
  }

  // The inputs of a step reach one position.
  void arrive_at(int64_t position, int32_t step) {
    int32_t *place = waiting_.data() + position * most_ + count_[position], base = 0;
    const int32_t stride = quantised_.stride, of_tap = quantised_.place(1, 0);
    for (int64_t tap = 0; tap < layer_.taps(); ++tap, base += of_tap) {
      const int64_t pixel = layer_.pixel(position, tap);
      if (pixel < 0) continue;
      const int32_t* end = inputs_.end(pixel, step);
      for (const int32_t* channel = inputs_.begin(pixel, step); channel < end; ++channel)
        *place++ = base + *channel * stride;
    }
    count_[position] = place - waiting_.data() - position * most_;
  }

  // Those that have reached a position fire; whether there are any.
  bool fire(int64_t position) {
    if (!count_[position]) return false;
    if (!active_[position]) clear(position);
    active_[position] += count_[position];
    int32_t *at = waiting_.data() + position * most_, *last = at + count_[position];
    if (count_[position] % kRowsPerAdd) *last++ = quantised_.place(0, layer_.channels);  // a row of zeros
    while (at < last) {
      if (!room_[position]) flush(position);
      const int32_t* end = std::min<const int32_t*>(last, at + room_[position] * kRowsPerAdd);
      add_rows(at, end, position);
      room_[position] -= (end - at) / kRowsPerAdd;
      at += end - at;
    }
    count_[position] = 0;
    return true;
  }

  // How many inputs of a position fire at a step.
  int64_t count(int64_t position, int32_t step) const {
    int64_t found = 0;
    for (int64_t tap = 0; tap < layer_.taps(); ++tap)
      if (const int64_t pixel = layer_.pixel(position, tap); pixel >= 0)
        found += inputs_.end(pixel, step) - inputs_.begin(pixel, step);
    return found;
  }

  // The potentials of a position, [stride], give or take its `margin`.
  float* read(int64_t position) {
    const int64_t from = position * quantised_.stride;
    const float base = quantised_.lower * active_[position];
    if (!active_[position]) clear(position);
    for (int64_t i = from; i < from + quantised_.stride; ++i)
      values_[i] = (totals_[i] + sums_[i]) * quantised_.step + base;
    return values_.data() + from;
  }

  const float* values(int64_t position) const { return values_.data() + position * quantised_.stride; }
  float margin(int64_t position) const { return half_ * active_[position]; }
  int64_t active(int64_t position) const { return active_[position]; }
  // What no potential of a position with so many inputs exceeds.
  float most(int64_t active) const { return active * (quantised_.top() + half_); }

  // The exact potential of a neuron from inputs up to step `last`.
  float exact(int64_t feature, int64_t position, int32_t last) const {
    Lanes sums[2] = {};
    float rest = 0;
    const int64_t channels = layer_.channels;
    const Steps latest = Steps{} + last;
    for (int64_t tap = 0; tap < layer_.taps(); ++tap) {
      const int64_t pixel = layer_.pixel(position, tap);
      if (pixel < 0) continue;
      const float* weight = layer_.row(tap, feature);
      const int32_t* when = inputs_.when(pixel);
      int64_t c = 0;
      auto next = [&](Lanes& sum) {
        const Lanes weights = *reinterpret_cast<const Lanes*>(weight + c);
        sum += *reinterpret_cast<const Steps*>(when + c) <= latest ? weights : Lanes{};
        c += kLanes;
      };
      while (c + 2 * kLanes <= channels) next(sums[0]), next(sums[1]);
      if (c + kLanes <= channels) next(sums[0]);
      for (; c < channels; ++c) rest += when[c] <= last ? weight[c] : 0.0f;
    }
    const Lanes sum = sums[0] + sums[1];
    for (int64_t lane = 0; lane < kLanes; ++lane) rest += sum[lane];
    return rest;
  }

  // The largest potential of a position, give or take its `margin`.
  float largest(int64_t position) const {
    const Lanes* of_block = reinterpret_cast<const Lanes*>(values(position));
    Lanes most = of_block[0];
    for (int64_t b = 1; b < quantised_.stride / kLanes; ++b) most = of_block[b] > most ? of_block[b] : most;
    float result = most[0];
    for (int64_t lane = 1; lane < kLanes; ++lane) result = std::max(result, most[lane]);
    return result;
  }

  // Puts the strongest neuron of features [first, end) at a position into `best` if it precedes that.
  void strongest(int64_t position, int64_t first, int64_t end, int32_t last, Neuron& best) const {
    const float* potential = values(position);
    auto compare = [&](int64_t f) {
      const Neuron one = {exact(f, position, last), f, position};
      if (one.precedes(best)) best = one;
    };
    const int64_t likely = std::max_element(potential + first, potential + end) - potential;
    const float enough = margin(position) + rounding_ * active_[position];
    if (potential[likely] == kSilent || !(potential[likely] + enough >= best.potential)) return;
    compare(likely);
    for (int64_t f = first; f < end; ++f)
      if (potential[f] + enough >= best.potential && f != likely) compare(f);
  }

  const Inputs& inputs() const { return inputs_; }

 private:
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
  int64_t most_;
  std::vector<int32_t> waiting_, count_;  // [positions, most], places of inputs that reach a position; how many
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
  const Steps latest = Steps{} + last;
  for (int64_t tap = 0; tap < layer.taps(); ++tap) {
    const int64_t pixel = layer.pixel(won.position, tap);
    float* weights = layer.row(tap, won.feature);
    const int32_t* when = pixel < 0 ? silent.data() : inputs.when(pixel);
    auto move = [&](int64_t c, auto count) {  // kLanes of them where that is known to the compiler, or fewer
      Lanes old = {};
      std::memcpy(&old, weights + c, 4 * count);
      Lanes change = *reinterpret_cast<const Steps*>(when + c) <= latest ? gain : loss;
      if (rule.stabiliser) change *= (old - lower) * (upper - old);
      const Lanes above = old + change > lower ? old + change : lower, moved = above < upper ? above : upper;
      std::memcpy(weights + c, &moved, 4 * count);
      const Steps now = quantised.of(moved);
      Flags changed = __builtin_convertvector(now != quantised.of(old), Flags);
      std::memset(reinterpret_cast<char*>(&changed) + count, 0, kLanes - count);
      uint64_t any[2];
      std::memcpy(any, &changed, sizeof any);
      for (int64_t half = 0; half < 2; ++half)
        for (; any[half]; any[half] &= ~(uint64_t{0xff} << (__builtin_ctzll(any[half]) & ~7))) {
          const int64_t lane = 8 * half + __builtin_ctzll(any[half]) / 8;
          quantised.at(won.feature, tap, c + lane) = now[lane];
        }
    };
    int64_t c = 0;
    for (; c + kLanes <= layer.channels; c += kLanes) move(c, std::integral_constant<int64_t, kLanes>());
    if (c < layer.channels) move(c, layer.channels - c);
  }
}

}  // namespace
