// Deciding layers under the vote of the strongest neuron: potentials after the last step, learned by reward.
//
// A weight is known to within half a step by one of kLevels integers. Their sums, in bytes, bound every potential:
// only the few neurons that may be the strongest are added up in floats. Positions whose inputs could not
// beat what is known are left out. Weights are (kh, kw, F, C) float32; which inputs fire matters, not when. Python has
// checked all buffers.

#include <cmath>

#include "common.h"

namespace {

constexpr int64_t kBlock = 64;  // features whose sums are added up side by side
constexpr int64_t kTogether = 2;  // bytes that can be added up without overflow
constexpr int kLevels = 128;
constexpr int64_t kMost = 256;  // sums of kTogether bytes that 16 bits hold
constexpr float kRounding = 1e-5f;  // bound of the error of a float32 potential, relative to the largest possible one
constexpr float kNothing = -std::numeric_limits<float>::infinity();

typedef uint8_t Octets __attribute__((vector_size(kBlock), aligned(1), may_alias));
typedef uint16_t Halves __attribute__((vector_size(kBlock), aligned(1), may_alias));
typedef int8_t Flags __attribute__((vector_size(kLanes)));

struct Layer {
  float* weights;  // [kh, kw, F, C]
  int64_t rows, columns, features, channels, height, width;
  int64_t above, left, down, right;  // padding and stride
  uint8_t steps;
  int64_t out_height = (height + 2 * above - rows) / down + 1, out_width = (width + 2 * left - columns) / right + 1;

  Layer(float* weights, const Floats& shape, const Bytes& inputs, const ffi::Dictionary& settings)
      : weights(weights), rows(shape.dimensions()[0]), columns(shape.dimensions()[1]),
        features(shape.dimensions()[2]), channels(shape.dimensions()[3]), height(inputs.dimensions()[2]),
        width(inputs.dimensions()[3]), above(number(settings, "above")), left(number(settings, "left")),
        down(number(settings, "down")), right(number(settings, "right")), steps(number(settings, "steps")) {}

  int64_t positions() const { return out_height * out_width; }
  int64_t taps() const { return rows * columns; }
  int64_t pixels() const { return height * width; }
  float* row(int64_t tap, int64_t feature) const { return weights + (tap * features + feature) * channels; }

  // Where a tap of a position lies, -1 on padding.
  int64_t pixel(int64_t position, int64_t tap) const {
    const int64_t y = position / out_width * down - above + tap / columns;
    const int64_t x = position % out_width * right - left + tap % columns;
    return y >= 0 && y < height && x >= 0 && x < width ? y * width + x : -1;
  }
};

// The inputs of one image that fire.
struct Inputs {
  std::vector<int32_t> fired;  // [pixels, C], all bits or none, and kLanes more
  std::vector<int32_t> places;  // [pixels, most], places of inputs in a tap of `Quantised`
  std::vector<int32_t> count, padded;  // [pixels], without and with those that fill up to kTogether
  int64_t most;

  void find(const Layer& layer, const uint8_t* latency, int64_t stride) {
    const int64_t pixels = layer.pixels(), channels = layer.channels;
    most = channels + kTogether;
    fired.resize(pixels * channels + kLanes);
    places.resize(pixels * most);
    count.resize(pixels);
    padded.resize(pixels);
    int32_t* flags = fired.data();
    const int32_t steps = layer.steps;
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t p = 0; p < pixels; ++p) flags[p * channels + c] = -int32_t(latency[c * pixels + p] < steps);
    for (int64_t p = 0; p < pixels; ++p, flags += channels) {
      int32_t* place = places.data() + p * most;
      int32_t n = 0;
      for (int64_t c = 0; c < channels; ++c) {
        place[n] = c * stride;
        n -= flags[c];
      }
      count[p] = n;
      while (n % kTogether) place[n++] = channels * stride;  // of a row of zeros
      padded[p] = n;
    }
  }
};

// The weights as integers: weight = lower + step * integer, give or take half a step.
class Quantised {
 public:
  int64_t blocks, stride;  // of features
  float lower, step, inverse;

  void make(const Layer& layer, float low, float high) {
    blocks = (layer.features + kBlock - 1) / kBlock;
    stride = blocks * kBlock;
    lower = low;
    step = (high - low) / (kLevels - 1);
    inverse = step > 0 ? 1 / step : 0;
    tap_ = (layer.channels + 1) * stride;
    values_.assign(layer.taps() * tap_ + kBlock, 0);
    begin_ = values_.data() + -reinterpret_cast<uintptr_t>(values_.data()) % kBlock;
    for (int64_t tap = 0; tap < layer.taps(); ++tap)
      for (int64_t first = 0; first < layer.channels; first += kLanes)
        for (int64_t f = 0; f < layer.features; ++f) {
          const float* weight = layer.row(tap, f);
          for (int64_t c = first; c < std::min(first + kLanes, layer.channels); ++c) at(tap, c)[place(f)] = of(weight[c]);
        }
  }

  const uint8_t* tap(int64_t number) const { return begin_ + number * tap_; }
  uint8_t* at(int64_t tap, int64_t channel) { return begin_ + tap * tap_ + channel * stride; }
  int32_t of(float weight) const { return static_cast<int32_t>((weight - lower) * inverse + 0.5f); }
  Steps of(const Lanes& weights) const { return __builtin_convertvector((weights - lower) * inverse + 0.5f, Steps); }

  // Where a feature's byte lies in its row: even and odd bytes of a block are added up apart.
  static int64_t place(int64_t f) { return f / kBlock * kBlock + 2 * (f % (kBlock / 2)) + f % kBlock / (kBlock / 2); }

 private:
  std::vector<uint8_t> values_;  // [taps, C + 1, stride], the last row of a tap 0
  uint8_t* begin_;  // of the values, where a line of the cache begins
  int64_t tap_;
};

// Adds `count` rows of kBlocks blocks, a multiple of kTogether; sums of even and of odd bytes apart.
template <int kBlocks>
void add(const uint8_t* rows, const int32_t* places, int64_t count, Halves* sums) {
  Halves even[kBlocks], odd[kBlocks];
  for (int b = 0; b < kBlocks; ++b) even[b] = sums[2 * b], odd[b] = sums[2 * b + 1];
  for (int64_t i = 0; i < count; i += kTogether) {
    const Octets* row[kTogether];
    for (int r = 0; r < kTogether; ++r) row[r] = reinterpret_cast<const Octets*>(rows + places[i + r]);
    for (int b = 0; b < kBlocks; ++b) {
      const Halves both = reinterpret_cast<Halves>(row[0][b] + row[1][b]);
      even[b] += both & 0xff;
      odd[b] += both >> 8;
    }
  }
  for (int b = 0; b < kBlocks; ++b) sums[2 * b] = even[b], sums[2 * b + 1] = odd[b];
}

// The strongest neuron of a group of features.
struct Strongest {
  float potential;
  int64_t feature, position;
};

// Finds the strongest neurons of one image after the other.
class Search {
 public:
  // `open`: 0, or -infinity of features that may not win, [F].
  Search(const Layer& layer, const Quantised& quantised, int64_t groups, const float* open)
      : layer_(layer), quantised_(quantised), groups_(groups), size_(layer.features / groups), found_(groups),
        least_(groups), order_(layer.positions()), active_(layer.positions()), left_(layer.positions()),
        sums_(layer.positions() * quantised.stride), totals_(sums_.size()), open_(quantised.stride, kNothing) {
    std::copy_n(open, layer.features, open_.begin());
    const float largest = std::max(std::abs(quantised.lower), std::abs(top()));
    half_ = 0.5f * quantised.step * (1 + kRounding) + 2 * kRounding * largest;
    rounding_ = kRounding * largest;
  }

  const Strongest* find(const uint8_t* latency) {
    inputs_.find(layer_, latency, quantised_.stride);
    for (int64_t p = 0; p < layer_.positions(); ++p) {
      order_[p] = p;
      active_[p] = 0;
      for (int64_t tap = 0; tap < layer_.taps(); ++tap)
        if (const int64_t pixel = layer_.pixel(p, tap); pixel >= 0) active_[p] += inputs_.count[pixel];
    }
    std::stable_sort(order_.begin(), order_.end(), [&](int64_t a, int64_t b) { return active_[a] > active_[b]; });
    std::fill(least_.begin(), least_.end(), kNothing);
    looked_ = 0;
    for (int64_t at = 0, next = 1; at < layer_.positions(); next *= 2) {
      const int64_t end = std::min(at + next, layer_.positions()), begin = looked_;
      const float least = *std::min_element(least_.begin(), least_.end());
      for (; at < end; ++at)
        if (active_[order_[at]] * (top() + half_) >= least) order_[looked_++] = order_[at];
      bound(begin, looked_);
    }
    for (int64_t g = 0; g < groups_; ++g) found_[g] = exact(g);
    return found_.data();
  }

  const Inputs& inputs() const { return inputs_; }

 private:
  float top() const { return quantised_.lower + quantised_.step * (kLevels - 1); }

  // Potentials at positions order_[begin..end), give or take half a step for each input.
  void bound(int64_t begin, int64_t end) {
    for (int64_t first = 0; first < quantised_.blocks; first += 4) {
      switch (std::min<int64_t>(4, quantised_.blocks - first)) {
        case 1: sum<1>(begin, end, first); break;
        case 2: sum<2>(begin, end, first); break;
        case 3: sum<3>(begin, end, first); break;
        default: sum<4>(begin, end, first);
      }
    }
    for (int64_t i = begin; i < end; ++i) {
      const int64_t position = order_[i];
      float* potentials = totals_.data() + position * quantised_.stride;
      const float base = quantised_.lower * active_[position], margin = half_ * active_[position];
      for (int64_t f = 0; f < quantised_.stride; ++f) potentials[f] = potentials[f] * quantised_.step + base + open_[f];
      for (int64_t g = 0; g < groups_; ++g) least_[g] = std::max(least_[g], largest(position, g) - margin);
    }
  }

  // The largest potential of a group at a position, as integers have it.
  float largest(int64_t position, int64_t group) const {
    const float* begin = totals_.data() + position * quantised_.stride + group * size_;
    float most = kNothing;
    for (int64_t f = 0; f < size_; ++f) most = begin[f] > most ? begin[f] : most;
    return most;
  }

  // Tap after tap, so that its weights stay in the cache: the sums of integers of some blocks of features.
  template <int kBlocks>
  void sum(int64_t begin, int64_t end, int64_t first) {
    auto sums = [&](int64_t p) { return reinterpret_cast<Halves*>(sums_.data() + p * quantised_.stride + first * kBlock); };
    auto flush = [&](int64_t p) {
      float* out = totals_.data() + p * quantised_.stride + first * kBlock;
      const uint16_t* from = sums_.data() + p * quantised_.stride + first * kBlock;
      for (int64_t i = 0; i < kBlocks * kBlock; ++i) out[i] += from[i];
      std::memset(sums(p), 0, 2 * kBlock * kBlocks);
      left_[p] = kMost;
    };
    for (int64_t i = begin; i < end; ++i) {
      std::fill_n(totals_.data() + order_[i] * quantised_.stride + first * kBlock, kBlocks * kBlock, 0.0f);
      std::memset(sums(order_[i]), 0, 2 * kBlock * kBlocks);
      left_[order_[i]] = kMost;
    }
    for (int64_t tap = 0; tap < layer_.taps(); ++tap) {
      const uint8_t* rows = quantised_.tap(tap) + first * kBlock;
      for (int64_t i = begin; i < end; ++i) {
        const int64_t p = order_[i], pixel = layer_.pixel(p, tap);
        if (pixel < 0) continue;
        const int32_t* places = inputs_.places.data() + pixel * inputs_.most;
        for (int64_t done = 0; done < inputs_.padded[pixel];) {
          if (!left_[p]) flush(p);
          const int64_t count = std::min(inputs_.padded[pixel] - done, left_[p] * kTogether);
          add<kBlocks>(rows, places + done, count, sums(p));
          done += count;
          left_[p] -= count / kTogether;
        }
      }
    }
    for (int64_t i = begin; i < end; ++i) flush(order_[i]);
  }

  // The strongest neuron of a group among those that may be it; the lowest feature, then position of equal ones.
  Strongest exact(int64_t group) const {
    Strongest best = {kNothing, -1, 0};
    float least = least_[group];
    auto try_one = [&](int64_t f, int64_t position) {
      const Strongest one = {potential(f, position), f, position};
      if (precedes(one, best)) best = one;
      least = std::max(least, one.potential - rounding_ * active_[position]);
    };
    const int64_t first = *std::max_element(order_.begin(), order_.begin() + looked_, [&](int64_t a, int64_t b) {
      return largest(a, group) < largest(b, group);
    });
    const float* potentials = totals_.data() + first * quantised_.stride;
    const float* begin = potentials + group * size_;
    try_one(std::max_element(begin, begin + size_) - potentials, first);
    for (int64_t i = 0; i < looked_; ++i) {
      const int64_t position = order_[i];
      const float margin = half_ * active_[position];
      potentials = totals_.data() + position * quantised_.stride;
      if (!(largest(position, group) + margin >= least)) continue;
      for (int64_t f = group * size_; f < (group + 1) * size_; ++f)
        if (potentials[f] + margin >= least) try_one(f, position);
    }
    return best;
  }

  static bool precedes(const Strongest& one, const Strongest& other) {
    if (one.potential != other.potential) return one.potential > other.potential;
    return one.feature != other.feature ? one.feature < other.feature : one.position < other.position;
  }

  float potential(int64_t feature, int64_t position) const {
    Lanes sums[2] = {};
    float rest = 0;
    const int64_t channels = layer_.channels;
    for (int64_t tap = 0; tap < layer_.taps(); ++tap) {
      const int64_t pixel = layer_.pixel(position, tap);
      if (pixel < 0) continue;
      const float* weight = layer_.row(tap, feature);
      const int32_t* fired = inputs_.fired.data() + pixel * channels;
      int64_t c = 0;
      auto next = [&](Lanes& sum) {
        const Steps bits = *reinterpret_cast<const Steps*>(weight + c) & *reinterpret_cast<const Steps*>(fired + c);
        sum += reinterpret_cast<const Lanes&>(bits);
        c += kLanes;
      };
      while (c + 2 * kLanes <= channels) next(sums[0]), next(sums[1]);
      if (c + kLanes <= channels) next(sums[0]);
      for (; c < channels; ++c) rest += fired[c] ? weight[c] : 0.0f;
    }
    const Lanes sum = sums[0] + sums[1];
    for (int64_t lane = 0; lane < kLanes; ++lane) rest += sum[lane];
    return rest;
  }

  const Layer& layer_;
  const Quantised& quantised_;
  int64_t groups_, size_;
  std::vector<Strongest> found_;
  std::vector<float> least_;  // [groups], a lower bound of the strongest potential
  std::vector<int64_t> order_;  // positions, the fullest first, then the `looked_` ones that are looked at
  std::vector<int64_t> active_, left_;  // [positions], inputs that fire, and rows that `sums_` can still take
  std::vector<uint16_t> sums_;  // [positions, stride]
  std::vector<float> totals_, open_;  // [positions, stride], potentials; [stride]
  int64_t looked_ = 0;
  float half_, rounding_;  // how far the potentials of integers and of floats may be off, for each input
  Inputs inputs_;
};

// What a winner learns.
struct Rule {
  float gain, loss, lower, upper;
  bool stabiliser;
};

// Moves the weights of a feature that has won, and their integers.
void update(const Layer& layer, Quantised& quantised, const Inputs& inputs, const Strongest& won, const Rule& rule) {
  static thread_local std::vector<int32_t> silent;
  silent.assign(layer.channels + kLanes, 0);
  const Lanes gain = Lanes{} + rule.gain, loss = Lanes{} + rule.loss;
  const Lanes lower = Lanes{} + rule.lower, upper = Lanes{} + rule.upper;
  for (int64_t tap = 0; tap < layer.taps(); ++tap) {
    const int64_t pixel = layer.pixel(won.position, tap);
    float* weights = layer.row(tap, won.feature);
    const int32_t* fired = pixel < 0 ? silent.data() : inputs.fired.data() + pixel * layer.channels;
    for (int64_t c = 0; c < layer.channels; c += kLanes) {
      const int64_t count = std::min(kLanes, layer.channels - c);
      Lanes old = {};
      std::memcpy(&old, weights + c, 4 * count);
      Lanes change = *reinterpret_cast<const Steps*>(fired + c) ? gain : loss;
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
          quantised.at(tap, c + lane)[Quantised::place(won.feature)] = now[lane];
        }
    }
  }
}

// Images span[0]..span[1]-1 are voted on, and learned from at `rates` after a right and a wrong vote; the votes and
// features of the others are -1, as are features that learn nothing.
ffi::Error learn_by_reward(Floats weights, Bytes latencies, Integers labels, Integers span,
                           Floats rates, Floats bounds, Floats open, ffi::Dictionary settings,
                           ffi::Result<Floats> learned, ffi::Result<Integers> vote,
                           ffi::Result<Integers> feature) {
  if (learned->typed_data() != weights.typed_data())
    std::memcpy(learned->typed_data(), weights.typed_data(), weights.size_bytes());
  std::fill_n(vote->typed_data(), vote->element_count(), -1);
  std::fill_n(feature->typed_data(), feature->element_count(), -1);
  const Layer layer(learned->typed_data(), weights, latencies, settings);
  const float lower = bounds.typed_data()[0], upper = bounds.typed_data()[1];
  static thread_local Quantised quantised;
  quantised.make(layer, lower, upper);
  Search search(layer, quantised, 1, open.typed_data());
  const int64_t size = layer.features / number(settings, "classes"), inputs = layer.channels * layer.pixels();
  for (int64_t at = span.typed_data()[0]; at < span.typed_data()[1]; ++at) {
    const Strongest won = search.find(latencies.typed_data() + at * inputs)[0];
    if (!(won.potential > 0)) continue;
    const int32_t voted = won.feature / size, label = labels.typed_data()[at];
    vote->typed_data()[at] = voted;
    if (label < 0) continue;
    feature->typed_data()[at] = won.feature;
    const float* rate = rates.typed_data() + (voted == label ? 0 : 2);
    update(layer, quantised, search.inputs(), won, {rate[0], rate[1], lower, upper, *settings.get<bool>("stabiliser")});
  }
  return ffi::Error::Success();
}

// The largest potential of each class, for each of B images.
ffi::Error strongest_of_classes(Floats weights, Bytes latencies, ffi::Dictionary settings, ffi::Result<Floats> potential) {
  const Layer layer(const_cast<float*>(weights.typed_data()), weights, latencies, settings);
  const auto [least, most] = std::minmax_element(layer.weights, layer.weights + weights.element_count());
  static thread_local Quantised quantised;
  quantised.make(layer, *least, *most);
  const int64_t classes = number(settings, "classes"), inputs = layer.channels * layer.pixels();
  const std::vector<float> open(layer.features, 0.0f);
  Search search(layer, quantised, classes, open.data());
  for (int64_t at = 0; at < latencies.dimensions()[0]; ++at) {
    const Strongest* found = search.find(latencies.typed_data() + at * inputs);
    for (int64_t g = 0; g < classes; ++g) potential->typed_data()[at * classes + g] = found[g].potential;
  }
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(snnjax_learn_by_reward, learn_by_reward);
XLA_FFI_DEFINE_HANDLER_SYMBOL(snnjax_strongest_of_classes, strongest_of_classes);
