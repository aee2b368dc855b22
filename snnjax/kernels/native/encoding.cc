// The exact sums of the encoding: of a bank of filters, and of the neighbourhoods of a local normalisation.
//
// Values are split into parts of few bits, as `kernels.exact` does it. The sums of a part are exact in any order; the
// parts are added up in the order of `exact.add`. So results are the same as XLA's, bit for bit.

#include "common.h"

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
  Parts(const Floats& array, const ffi::Dictionary& settings)
      : count(number(settings, "parts")), size_(array.element_count()), bits_(number(settings, "bits")) {
    const float* values = array.typed_data();
    float* out = kept<0, float>((count + 1) * size_ + 2 * kLanes);
    integers_ = out;
    if (count == 1) {  // the values are integers
      std::copy_n(values, size_, out);
      return;
    }
    const float most = std::max(largest_absolute(values, size_), kLeast);  // NaN if that is the first
    int exponent;
    std::frexp(most, &exponent);
    const float inverse = std::ldexp(1.0f, bits_ - exponent), finer = std::ldexp(1.0f, bits_);
    first_ = std::isfinite(most) ? 1 / inverse : std::numeric_limits<float>::quiet_NaN();
    for (int64_t i = 0; i < size_; ++i) out[i] = values[i] * inverse;
    for (int64_t part = 0; part < count; ++part, out += size_)
      for (int64_t i = 0; i < size_; ++i) {
        const float rest = out[i], integer = std::rint(rest);
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

constexpr int64_t kPixelParts = 3;  // of pixels that are no integers
constexpr int64_t kTapParts = 3;    // at most, applied at once

// Kernels of one size, as parts: `taps` are (parts, features, rows, columns). Of kernels that are the same upside down
// there are only the rows up to the middle; of those that are the same from right to left only the columns, the taps
// of the middle one halved.
struct Group {
  int64_t size() const { return rows * columns; }
  const float* kernel(int64_t part, int64_t feature) const { return taps + (part * features + feature) * size(); }

  const float* taps;
  int64_t parts, features, rows, columns, window;
};

// Rows of an image, from `corner` of each part on, that a row of the output sees: (rows, parts, stride). Rows that
// share taps are added up.
void rows_seen(const Parts& image, const Group& group, int64_t corner, int64_t width, int64_t stride, float* rows) {
  for (int64_t row = 0; row < group.rows; ++row)
    for (int64_t part = 0; part < image.count; ++part, rows += stride) {
      const float* upper = image.integers(part) + corner + row * width;
      const float* lower = upper + (group.window - 1 - 2 * row) * width;
      const bool shared = group.rows < group.window && lower != upper;
      for (int64_t x = 0; x < stride; x += kLanes)
        lanes(rows + x) = shared ? lanes(upper + x) + lanes(lower + x) : lanes(upper + x);
    }
}

// Adds to a row of a map the sums of `rows`, weighted by the last `kTaps` parts up to `part` of a feature's taps.
template <int64_t kTaps, int64_t kPixels, bool kFolded>
void add_row(const Group& group, int64_t part, int64_t feature, const float* rows, int64_t stride, const float* units,
             int64_t width, float* map) {
  const int64_t apart = group.features * group.size();
  for (int64_t x = 0; x < width; x += kLanes) {
    Lanes sums[kTaps][kPixels] = {};
    const float* tap = group.kernel(part - kTaps, feature);
    for (int64_t row = 0; row < group.rows; ++row)
      for (int64_t column = 0; column < group.columns; ++column, ++tap) {
        const float* left = rows + row * kPixels * stride + x + column;
        const float* right = left + group.window - 1 - 2 * column;
        for (int64_t p = 0; p < kPixels; ++p) {
          Lanes values = lanes(left + p * stride);
          if (kFolded) values += lanes(right + p * stride);
          for (int64_t t = 0; t < kTaps; ++t) sums[t][p] += tap[t * apart] * values;
        }
      }
    for (int64_t t = kTaps - 1; t >= 0; --t)
      for (int64_t p = kPixels - 1; p >= 0; --p) lanes(map + x) += sums[t][p] * units[p];
  }
}

// The maps (features, height, width) of a group for an image whose rows have `columns` pixels.
void filter(const Parts& image, const Group& group, int64_t columns, int64_t height, int64_t width, float* maps) {
  const int64_t margin = (columns - width + 1 - group.window) / 2;  // around the group's windows
  const int64_t stride = filled_up(filled_up(width) + group.window - 1);
  float* rows = kept<1, float>(group.rows * image.count * stride);
  float units[kPixelParts];
  for (int64_t part = 0; part < image.count; ++part) units[part] = image.unit(part);
  for (int64_t y = 0; y < height; ++y) {
    rows_seen(image, group, (y + margin) * columns + margin, columns, stride, rows);
    for (int64_t feature = 0; feature < group.features; ++feature) {
      float* row = filled<2, float>(filled_up(width), 0);
      for (int64_t part = group.parts; part > 0; part -= kTapParts)
        with_known<1, 2, kTapParts>(part, [&]<int64_t kTaps>() {
          with_known<1, kPixelParts>(image.count, [&]<int64_t kPixels>() {
            with_known<false, true>(group.columns < group.window, [&]<int64_t kFolded>() {
              add_row<kTaps, kPixels, kFolded>(group, part, feature, rows, stride, units, width, row);
            });
          });
        });
      std::copy_n(row, width, maps + (feature * height + y) * width);
    }
  }
}

// Filters an image (H, W) by groups of kernels: `shapes` are (groups, 5).
ffi::Error filter_sums(Floats image, Floats taps, Integers shapes, ffi::Dictionary settings, ffi::Result<Floats> maps) {
  const Parts pixels(image, settings);
  const int64_t height = maps->dimensions()[1], width = maps->dimensions()[2];
  const float* next = taps.typed_data();
  float* map = maps->typed_data();
  for (int64_t i = 0; i < shapes.dimensions()[0]; ++i) {
    const int32_t* shape = shapes.typed_data() + 5 * i;
    const Group group{next, shape[0], shape[1], shape[2], shape[3], shape[4]};
    filter(pixels, group, image.dimensions()[1], height, width, map);
    next += group.parts * group.features * group.size();
    map += group.features * height * width;
  }
  return ffi::Error::Success();
}

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
  for (int64_t x = 0; x < width; ++x) until[radius + 1 + x] = sum += columns[x];
  std::fill_n(until + radius + 1 + width, radius, sum);
  for (int64_t x = 0; x < width; ++x) row[x] += static_cast<int32_t>(until[x + 2 * radius + 1] - until[x]) * unit;
}

// The sums of the zero-padded square neighbourhoods of maps (C, H, W), channel by channel.
ffi::Error neighbourhood_sums(Floats maps, ffi::Dictionary settings, ffi::Result<Floats> sums) {
  const int64_t channels = maps.dimensions()[0], height = maps.dimensions()[1], width = maps.dimensions()[2];
  const int64_t radius = number(settings, "radius"), stride = filled_up(width);
  const Parts values(maps, settings);
  int32_t* columns = kept<3, int32_t>(height * stride);
  uint32_t* until = kept<4, uint32_t>(width + 2 * radius + 1);
  std::fill_n(sums->typed_data(), sums->element_count(), 0.0f);
  for (int64_t part = values.count - 1; part >= 0; --part) {
    const float unit = values.unit(part);
    for (int64_t plane = 0; plane < channels * height * width; plane += height * width) {
      sum_columns(values.integers(part) + plane, height, width, radius, stride, columns);
      float* row = sums->typed_data() + plane;
      for (int64_t y = 0; y < height; ++y, row += width)
        add_columns(columns + y * stride, width, radius, unit, until, row);
    }
  }
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(snnjax_filter_sums, filter_sums);
XLA_FFI_DEFINE_HANDLER_SYMBOL(snnjax_neighbourhood_sums, neighbourhood_sums);
