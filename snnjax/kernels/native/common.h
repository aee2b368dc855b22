// Shared by the kernels: buffers, lanes, settings and memory.

#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <thread>
#include <vector>

#ifdef __linux__
#include <sched.h>
#endif
#ifdef __SSE2__
#include <immintrin.h>
#endif

#include "ffi.h"

namespace {

using Bytes = ffi::Buffer<uint8_t>;
using Floats = ffi::Buffer<float>;
using Integers = ffi::Buffer<int32_t>;
using Flags = ffi::Buffer<bool>;

// Features are filled up to a multiple of this.
constexpr int64_t kFilled = 16;
// Features processed at once, as many as a register holds: GCC 12 compares wider vectors one element after the other.
// Under AVX2, vectors of 16 made latencies take twice as long, and readouts eleven times.
#if defined(__AVX512F__)
constexpr int64_t kLanes = 16;
#elif defined(__AVX2__)
constexpr int64_t kLanes = 8;
#else
constexpr int64_t kLanes = 4;
#endif
// `aligned(4)`: rows of buffers begin anywhere. `may_alias`: the same memory is also read as single floats and as
// integers.
typedef float Lanes __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));
typedef int32_t Steps __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));
constexpr float kSilent = -std::numeric_limits<float>::infinity();

// 0, 1, 2, ...
Steps numbers() {
  Steps steps;
  for (int64_t lane = 0; lane < kLanes; ++lane) steps[lane] = lane;
  return steps;
}

const Steps kNumbers = numbers();

// A bit for each lane of a mask that is set.
uint32_t bits(const Steps& mask) {
#if defined(__AVX512F__)
  return _mm512_cmplt_epi32_mask(reinterpret_cast<__m512i>(mask), _mm512_setzero_si512());
#elif defined(__AVX2__)
  return _mm256_movemask_ps(reinterpret_cast<__m256>(mask));
#elif defined(__SSE2__)
  return _mm_movemask_ps(reinterpret_cast<__m128>(mask));
#else
  uint32_t set = 0;
  for (int64_t lane = 0; lane < kLanes; ++lane) set |= (mask[lane] & 1u) << lane;
  return set;
#endif
}

// Calls `use(lane)` for the lanes of a mask that are set.
template <typename Use>
void each_lane(const Steps& mask, Use use) {
  for (uint32_t set = bits(mask); set; set &= set - 1) use(__builtin_ctz(set));
}

// Asks for the lines of a row that is to be read soon.
void prefetch(const float* row, int64_t count) {
  for (int64_t i = 0; i < count; i += kLanes) __builtin_prefetch(row + i);
}

float sum_of(const Lanes& values) {
  float sum = 0;
  for (int64_t lane = 0; lane < kLanes; ++lane) sum += values[lane];
  return sum;
}

// The sum of some values.
float sum_of(const float* values, int64_t count) {
  Lanes sums = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) sums += *reinterpret_cast<const Lanes*>(values + i);
  float sum = sum_of(sums);
  for (; i < count; ++i) sum += values[i];
  return sum;
}

// The largest of some values.
float largest(const float* values, int64_t count) {
  float most = kSilent;
  int64_t i = 0;
  if (count >= kLanes) {
    Lanes of_lane = Lanes{} + kSilent;
    for (; i + kLanes <= count; i += kLanes) {
      const Lanes& here = *reinterpret_cast<const Lanes*>(values + i);
      of_lane = here > of_lane ? here : of_lane;
    }
    for (int64_t lane = 0; lane < kLanes; ++lane) most = std::max(most, of_lane[lane]);
  }
  for (; i < count; ++i) most = std::max(most, values[i]);
  return most;
}

// Calls `use` with a number that the compiler knows: that of some which `number` is, otherwise the last one.
template <int64_t kFirst, int64_t... kOthers, typename Use>
auto with_known(int64_t number, Use use) {
  if constexpr (sizeof...(kOthers) > 0)
    if (number != kFirst) return with_known<kOthers...>(number, use);
  return use.template operator()<kFirst>();
}

int64_t number(const ffi::Dictionary& settings, const char* name) { return settings.scalar<int64_t>(name); }

auto numbers(const ffi::Dictionary& settings, const char* name) {
  return settings.array(name);
}

bool flag(const ffi::Dictionary& settings, const char* name) { return settings.scalar<bool>(name); }

// Max pooling of rows and columns, strides and padding into a map of a height and width.
struct Pool {
  int64_t rows, columns, down, right, above, left, height, width;

  // Calls `use(position)` for positions in a cell, of a layer of so many rows and columns of positions.
  template <typename Use>
  void in(int64_t cell, int64_t out_height, int64_t out_width, Use use) const {
    const int64_t y0 = cell / width * down - above, x0 = cell % width * right - left;
    for (int64_t y = std::max<int64_t>(0, y0); y < std::min(y0 + rows, out_height); ++y)
      for (int64_t x = std::max<int64_t>(0, x0); x < std::min(x0 + columns, out_width); ++x) use(y * out_width + x);
  }
};

Pool pool_of(const ffi::Dictionary& settings) {
  const auto given = numbers(settings, "pool");
  return {given[0], given[1], given[2], given[3], given[4], given[5], given[6], given[7]};
}

// How many cores this thread may use.
int64_t cores() {
#ifdef __linux__
  cpu_set_t set;
  if (!sched_getaffinity(0, sizeof(set), &set)) return CPU_COUNT(&set);
#endif
  return std::thread::hardware_concurrency();
}

// Memory that begins with a line of the cache, so that no vector lies in two: these take twice as long to load. Its
// content is arbitrary.
template <typename T>
class Memory {
 public:
  Memory() = default;
  explicit Memory(int64_t size) { reserve(size); }

  void reserve(int64_t size) {
    const int64_t lines = (size * sizeof(T) + sizeof(Line) - 1) / sizeof(Line);
    if (lines > lines_) memory_.reset(new Line[lines]), lines_ = lines;
  }

  T* data() const { return reinterpret_cast<T*>(memory_.get()); }

 private:
  // Rows that begin with a line made learning by reward 15 to 20 % faster. Huge pages made no difference.
  struct alignas(64) Line {
    uint8_t bytes[64];
  };
  std::unique_ptr<Line[]> memory_;
  int64_t lines_ = 0;
};

// Memory that a thread keeps from call to call, an array for each slot.
template <int kSlot, typename T>
T* kept(int64_t size) {
  static thread_local Memory<T> memory;
  memory.reserve(size);
  return memory.data();
}

// The same, filled.
template <int kSlot, typename T>
T* filled(int64_t size, T value) {
  T* memory = kept<kSlot, T>(size);
  std::fill_n(memory, size, value);
  return memory;
}

// A result begins as the argument that it takes the place of.
void keep(const Floats& from, ffi::Result<Floats>& to) {
  if (to->typed_data() != from.typed_data()) std::memcpy(to->typed_data(), from.typed_data(), from.size_bytes());
}

// A result of which nothing is known yet.
void silence(ffi::Result<Integers>& result) { std::fill_n(result->typed_data(), result->element_count(), -1); }

// Four values, which are only moved: the bits of integers too.
typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));

// The elements i, j of `one` and k, l of `other`.
#ifdef __clang__
#define SNNJAX_PICK(one, other, i, j, k, l) __builtin_shufflevector(one, other, i, j, 4 + k, 4 + l)
#else
#define SNNJAX_PICK(one, other, i, j, k, l) \
  __builtin_shuffle(one, other, (int32_t __attribute__((vector_size(16)))){i, j, 4 + k, 4 + l})
#endif

// From [rows, columns] to [columns, rows], whose lines begin every so many values. Blocks of 4 x 4 take half of the
// time that single values do, which are written one by one.
void transpose(const float* from, int64_t from_stride, float* to, int64_t to_stride, int64_t rows, int64_t columns) {
  int64_t row = 0;
  for (; row + 4 <= rows; row += 4) {
    int64_t column = 0;
    for (; column + 4 <= columns; column += 4) {
      const float* corner = from + row * from_stride + column;
      const auto line = [&](int64_t i) { return *reinterpret_cast<const Four*>(corner + i * from_stride); };
      const Four a = line(0), b = line(1), c = line(2), d = line(3);
      const Four ab = SNNJAX_PICK(a, b, 0, 1, 0, 1), AB = SNNJAX_PICK(a, b, 2, 3, 2, 3);
      const Four cd = SNNJAX_PICK(c, d, 0, 1, 0, 1), CD = SNNJAX_PICK(c, d, 2, 3, 2, 3);
      const auto put = [&](int64_t i, const Four& values) {
        *reinterpret_cast<Four*>(to + (column + i) * to_stride + row) = values;
      };
      put(0, SNNJAX_PICK(ab, cd, 0, 2, 0, 2)), put(1, SNNJAX_PICK(ab, cd, 1, 3, 1, 3));
      put(2, SNNJAX_PICK(AB, CD, 0, 2, 0, 2)), put(3, SNNJAX_PICK(AB, CD, 1, 3, 1, 3));
    }
    for (; column < columns; ++column)
      for (int64_t i = row; i < row + 4; ++i) to[column * to_stride + i] = from[i * from_stride + column];
  }
  for (; row < rows; ++row)
    for (int64_t column = 0; column < columns; ++column)
      to[column * to_stride + row] = from[row * from_stride + column];
}

// From [positions, stride] to [features, positions].
template <typename From, typename To>
void turn(const From* from, To* to, int64_t positions, int64_t stride, int64_t features) {
  for (int64_t p = 0; p < positions; p += kLanes) {
    const int64_t end = std::min(positions, p + kLanes);
    for (int64_t f = 0; f < features; ++f)
      for (int64_t q = p; q < end; ++q) to[f * positions + q] = from[q * stride + f];
  }
}

}  // namespace
