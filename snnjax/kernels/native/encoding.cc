// The exact sums of a local normalisation's neighbourhoods.
//
// Values are split into parts of few bits, as `kernels.exact` does it. The sums of a part are exact in any order; the
// parts are added up in the order of `exact.add`. So results are the same as XLA's, bit for bit.

#include "batch.h"

namespace {

constexpr float kLeast = 0x1p-60f;  // as in `exact.split`: below it all values count as 0

int64_t filled_up(int64_t width) { return (width + kLanes - 1) / kLanes * kLanes; }

const Lanes& lanes(const float* values) { return *reinterpret_cast<const Lanes*>(values); }
Lanes& lanes(float* values) { return *reinterpret_cast<Lanes*>(values); }

float largest_absolute(const float* values, int64_t count) {
  int32_t most = 0;  // absolute values order as the integers of their bits do, which are compared side by side
  for (int64_t i = 0; i < count; ++i) most = std::max(most, std::bit_cast<int32_t>(values[i]) & 0x7fffffff);
  return std::bit_cast<float>(most);
}

// `exact.split` of an array: its values are the sums of `count` parts, integers times a unit each.
class Parts {
 public:
  Parts(const FloatPart& array, const ffi::Dictionary& settings)
      : count(number(settings, "parts")), size_(array.element_count()), bits_(number(settings, "bits")) {
    const float* values = array.typed_data();
    float* out = kept<0, float>((count + 1) * size_ + 2 * kLanes);
    integers_ = out;
    const float most = std::max(largest_absolute(values, size_), kLeast);  // NaN if that is the first
    int exponent;
    std::frexp(most, &exponent);
    const float inverse = std::ldexp(1.0f, bits_ - exponent);
    const float finer = std::ldexp(1.0f, bits_);
    first_ = std::isfinite(most) ? 1 / inverse : std::numeric_limits<float>::quiet_NaN();
    for (int64_t i = 0; i < size_; ++i) out[i] = values[i] * inverse;
    for (int64_t part = 0; part < count; ++part, out += size_)
      for (int64_t i = 0; i < size_; ++i) {
        const float rest = out[i];
        const float integer = std::rint(rest);
        out[i] = integer;
        out[size_ + i] = (rest - integer) * finer;
      }
  }

  // The integers of a part, in the array's order; at least 2 kLanes more may be read.
  const float* integers(int64_t part) const { return integers_ + part * size_; }
  float unit(int64_t part) const { return std::ldexp(first_, -bits_ * part); }  // NaN if a value is NaN or infinite

  const int64_t count;

 private:
  const int64_t size_, bits_;
  float first_ = 1;  // unit
  const float* integers_;
};

// The sums of a plane's columns over the 2 radius + 1 rows around each row, (height, stride), zeros around the plane.
void sum_columns(const float* plane, int64_t height, int64_t width, int64_t radius, int64_t stride, int32_t* sums) {
  for (int64_t x = 0; x < width; x += kLanes) {
    Lanes sum = {};
    for (int64_t y = -radius; y < height; ++y) {  // subtracted first, so that no sum is of more rows than are exact
      if (y > radius) sum -= lanes(plane + (y - radius - 1) * width + x);
      if (y + radius < height) sum += lanes(plane + (y + radius) * width + x);
      if (y >= 0) *reinterpret_cast<Steps*>(sums + y * stride + x) = __builtin_convertvector(sum, Steps);
    }
  }
}

// Adds to a row the sums of the 2 radius + 1 columns around each, times a unit. Sums up to a column, in `until`, may
// exceed 2^32: their differences do not.
void add_columns(const int32_t* columns, int64_t width, int64_t radius, float unit, uint32_t* until, float* row) {
  uint32_t sum = 0;
  std::fill_n(until, radius + 1, 0);
  for (int64_t x = 0; x < width; ++x) {
    sum += columns[x];
    until[radius + 1 + x] = sum;
  }
  std::fill_n(until + radius + 1 + width, radius, sum);
  for (int64_t x = 0; x < width; ++x) row[x] += static_cast<int32_t>(until[x + 2 * radius + 1] - until[x]) * unit;
}

// The sums of the zero-padded square neighbourhoods of maps (C, H, W), channel by channel.
void add_neighbours(const FloatPart& maps, const ffi::Dictionary& settings, const FloatPart& sums) {
  const int64_t channels = maps.dimensions()[0], height = maps.dimensions()[1], width = maps.dimensions()[2];
  const int64_t radius = number(settings, "radius"), stride = filled_up(width);
  const Parts values(maps, settings);
  int32_t* columns = kept<3, int32_t>(height * stride);
  uint32_t* until = kept<4, uint32_t>(width + 2 * radius + 1);
  std::fill_n(sums.data, sums.element_count(), 0.0f);
  for (int64_t part = values.count - 1; part >= 0; --part) {
    const float unit = values.unit(part);
    for (int64_t plane = 0; plane < channels * height * width; plane += height * width) {
      sum_columns(values.integers(part) + plane, height, width, radius, stride, columns);
      float* row = sums.data + plane;
      for (int64_t y = 0; y < height; ++y, row += width)
        add_columns(columns + y * stride, width, radius, unit, until, row);
    }
  }
}

ffi::Error neighbourhood_sums(Threads threads, Floats maps, ffi::Dictionary settings, ffi::Result<Floats> sums) {
  const Batch batch(sums, 3);
  return batch.each(threads, [&](int64_t i) {
    add_neighbours(batch.part(maps, 3, i), settings, batch.part(*sums, 3, i));
  });
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(snnjax_neighbourhood_sums, neighbourhood_sums);
