// Where the neurons of a layer lie on its input, and how its weights are packed.
//
// Python gives weights (F, C, kh, kw). Each kernel packs them once per call so that what it reads together lies together.

#pragma once

#include "batch.h"

namespace {

// The neurons along an axis that see an input, and the tap of the kernel by which the first does; the next one's lies a
// stride before.
struct Span {
  int64_t first, last, tap;
};

struct Geometry {
  int64_t features, channels, rows, columns;  // of weights
  int64_t height, width;  // of the input
  int64_t above, left, down, right;  // padding and strides
  int64_t out_height = (height + 2 * above - rows) / down + 1, out_width = (width + 2 * left - columns) / right + 1;

  // `shape` ends with F, C, kh, kw; the setting `name` holds the padding and the strides.
  Geometry(ffi::Span<int64_t> shape, const ffi::Dictionary& settings, const char* name, int64_t height,
           int64_t width)
      : features(shape.last(4)[0]), channels(shape.last(4)[1]), rows(shape.last(4)[2]), columns(shape.last(4)[3]),
        height(height), width(width), above(numbers(settings, name)[0]), left(numbers(settings, name)[1]),
        down(numbers(settings, name)[2]), right(numbers(settings, name)[3]) {}

  int64_t positions() const { return out_height * out_width; }
  int64_t taps() const { return rows * columns; }
  int64_t pixels() const { return height * width; }
  int64_t inputs() const { return channels * pixels(); }
  int64_t synapses() const { return channels * taps(); }  // of a neuron
  int64_t size() const { return features * synapses(); }  // of the weights

  // The rows of neurons that see a row of the input, and the columns that see a column.
  Span below(int64_t row) const { return seen_by(row + above, rows, down, out_height); }
  Span beside(int64_t column) const { return seen_by(column + left, columns, right, out_width); }

 private:
  // Without divisions where the stride is 1: they would take longer than the rest.
  static Span seen_by(int64_t input, int64_t taps, int64_t stride, int64_t neurons) {
    const int64_t least = std::max<int64_t>(0, input - taps + 1);
    const int64_t first = stride == 1 ? least : (least + stride - 1) / stride;
    const int64_t last = stride == 1 ? input : input / stride;
    return {first, std::min(neurons - 1, last), input - first * stride};
  }
};

// The geometry of a layer on stimuli (..., C, H, W), by its setting "layer".
Geometry geometry_of(const Floats& weights, const Bytes& latency, const ffi::Dictionary& settings) {
  const auto size = latency.dimensions().last(2);
  return {weights.dimensions(), settings, "layer", size[0], size[1]};
}

// The layout of event-driven kernels: (kh, C, kw, stride) with columns from right to left, and features filled up with
// zeros to a multiple of kFilled. What one input adds to neighbouring neurons lies side by side.
class EventLayout {
 public:
  explicit EventLayout(const Geometry& geometry)
      : stride((geometry.features + kFilled - 1) / kFilled * kFilled), geometry_(geometry) {}

  int64_t stride;

  int64_t size() const { return geometry_.synapses() * stride; }

  // The row of `stride` weights that holds those of a synapse, which is numbered as in (C, kh, kw).
  int64_t row(int64_t synapse) const {
    const int64_t column = synapse % geometry_.columns, rest = synapse / geometry_.columns;
    const int64_t line = rest % geometry_.rows * geometry_.channels + rest / geometry_.rows;
    return line * geometry_.columns + geometry_.columns - 1 - column;
  }

  void pack(const float* weights, float* packed) const {
    each_tile([&](int64_t feature, int64_t count, int64_t synapse, int64_t synapses, const int64_t* rows) {
      float tile[kTile][kTile] = {};
      for (int64_t f = 0; f < count; ++f)
        std::memcpy(tile[f], weights + (feature + f) * geometry_.synapses() + synapse, sizeof(float) * synapses);
      for (int64_t s = 0; s < synapses; ++s)
        for (int64_t f = 0; f < kTile; ++f) packed[rows[s] + feature + f] = tile[f][s];
    });
  }

  void unpack(const float* packed, float* weights) const {
    each_tile([&](int64_t feature, int64_t count, int64_t synapse, int64_t synapses, const int64_t* rows) {
      float tile[kTile][kTile];
      for (int64_t s = 0; s < synapses; ++s)
        for (int64_t f = 0; f < kTile; ++f) tile[f][s] = packed[rows[s] + feature + f];
      for (int64_t f = 0; f < count; ++f)
        std::memcpy(weights + (feature + f) * geometry_.synapses() + synapse, tile[f], sizeof(float) * synapses);
    });
  }

  // Packs the weights of one feature.
  void pack_feature(const float* weights, int64_t feature, float* packed) const {
    const float* from = weights + feature * geometry_.synapses();
    float* to = packed + feature;
    for (int64_t channel = 0; channel < geometry_.channels; ++channel)
      for (int64_t r = 0; r < geometry_.rows; ++r) {
        const int64_t first = (r * geometry_.channels + channel) * geometry_.columns + geometry_.columns - 1;
        for (int64_t c = 0; c < geometry_.columns; ++c) to[(first - c) * stride] = *from++;
      }
  }

 private:
  static constexpr int64_t kTile = kFilled;

  // Calls `move` for tiles of weights: the first feature and the number of features, the first synapse and the number
  // of synapses, and where the rows of these begin.
  template <typename Move>
  void each_tile(Move move) const {
    for (int64_t synapse = 0; synapse < geometry_.synapses(); synapse += kTile) {
      const int64_t synapses = std::min(kTile, geometry_.synapses() - synapse);
      int64_t rows[kTile];
      for (int64_t s = 0; s < synapses; ++s) rows[s] = row(synapse + s) * stride;
      for (int64_t feature = 0; feature < geometry_.features; feature += kTile)
        move(feature, std::min(kTile, geometry_.features - feature), synapse, synapses, rows);
    }
  }

  const Geometry geometry_;
};

// The weights of a call in the layout of event-driven kernels, packed once for all stimuli that share them.
class EventWeights {
 public:
  EventWeights(const EventLayout& layout, const Batch& batch, const Floats& weights, Threads& threads)
      : batch_(batch), weights_(weights), size_(layout.size()), packed_(batch.distinct(weights) * size_) {
    batch.each_distinct(threads, weights, 4, [&](int64_t index, const FloatPart& part) {
      layout.pack(part.data, packed_.data() + index * size_);
    });
  }

  // Those of a stimulus.
  const float* of(int64_t stimulus) const { return packed_.data() + batch_.index_of(weights_, 4, stimulus) * size_; }

 private:
  const Batch& batch_;
  const Floats& weights_;
  int64_t size_;
  const Memory<float> packed_;
};

}  // namespace
