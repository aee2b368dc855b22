// Calls under jax.vmap: one call takes all stimuli, which the cores share.

#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <numeric>
#include <thread>

#include "common.h"

namespace {

using Threads = ffi::ThreadPool;

// What one stimulus has of a buffer: used like a buffer.
template <typename T>
struct Part {
  T* data;
  ffi::Span<int64_t> shape;

  T* typed_data() const { return data; }
  ffi::Span<int64_t> dimensions() const { return shape; }
  int64_t element_count() const { return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>()); }
};

using FloatPart = Part<float>;
using BytePart = Part<uint8_t>;
using IntegerPart = Part<int32_t>;
using FlagPart = Part<bool>;

// The stimuli of a call. The axes of jax.vmap come before a stimulus's own: a result has them in full, an argument of
// size 1 where all stimuli share it.
class Batch {
 public:
  // `result` is any result, `rank` the number of axes that a stimulus has of it.
  template <typename Buffer>
  Batch(ffi::Result<Buffer>& result, int64_t rank)
      : axes_(result->dimensions().first(result->dimensions().size() - rank)) {}

  int64_t size() const { return std::accumulate(axes_.begin(), axes_.end(), int64_t{1}, std::multiplies<>()); }

  // What stimulus number `index` has of an argument or a result, whose own axes are the last `rank`.
  template <typename Buffer>
  auto part(const Buffer& buffer, int64_t rank, int64_t index) const {
    const auto shape = buffer.dimensions();
    Part part{buffer.typed_data(), shape.last(rank)};
    int64_t stride = part.element_count();
    for (int64_t axis = axes_.size() - 1; axis >= 0; --axis) {
      const int64_t place = index % axes_[axis];
      index /= axes_[axis];
      // An argument that all stimuli share has the size 1 along this axis, and its part is the same for all.
      if (shape[axis] > 1) part.data += place * stride;
      stride *= shape[axis];
    }
    return part;
  }

  // How many different parts an argument has: stimuli may share them.
  template <typename Buffer>
  int64_t distinct(const Buffer& buffer) const {
    int64_t parts = 1;
    for (const int64_t size : buffer.dimensions().first(axes_.size())) parts *= size;
    return parts;
  }

  // Which of these stimulus number `index` has.
  template <typename Buffer>
  int64_t index_of(const Buffer& buffer, int64_t rank, int64_t index) const {
    const auto own = part(buffer, rank, index);
    return own.element_count() ? (own.data - buffer.typed_data()) / own.element_count() : 0;
  }

  // Calls `use(index, part)` for each different part of an argument.
  template <typename Buffer, typename Use>
  ffi::Error each_distinct(Threads& threads, const Buffer& buffer, int64_t rank, const Use& use) const {
    const auto shape = buffer.dimensions().last(rank);
    return each(threads, distinct(buffer), [&](int64_t index) {
      Part part{buffer.typed_data(), shape};
      part.data += index * part.element_count();
      use(index, part);
    });
  }

  // Calls `use(index)` for each stimulus.
  template <typename Use>
  ffi::Error each(Threads& threads, const Use& use) const {
    return each(threads, size(), use);
  }

  // Calls `use(index, first, end)` for stimuli of `count` items each, which cores that would be idle share.
  template <typename Use>
  ffi::Error each_share(Threads& threads, int64_t count, const Use& use) const {
    const int64_t shares = std::clamp<int64_t>(cores() / std::max<int64_t>(1, size()), 1, std::max<int64_t>(1, count));
    return each(threads, size() * shares, [&](int64_t index) {
      const int64_t share = index % shares;
      use(index / shares, share * count / shares, (share + 1) * count / shares);
    });
  }

 private:
  // Calls `use(index)` for each index below `count`. The calling thread waits for nothing that has not begun, so that no
  // call blocks another one where all threads of the pool are taken.
  template <typename Use>
  static ffi::Error each(Threads& threads, int64_t count, const Use& use) {
    struct Progress {
      std::atomic<int64_t> begun{0}, done{0};
      std::atomic<bool> failed{false};
    };
    const auto progress = std::make_shared<Progress>();
    // A helper may begin after this call has returned. So it owns a share of `progress`, in which it finds no index
    // left, and never touches `use`, which is gone by then.
    const auto work = [progress, count, &use] {
      for (int64_t index; (index = progress->begun++) < count; ++progress->done) try {
          use(index);
        } catch (const std::bad_alloc&) {
          progress->failed = true;
        }
    };
    const int64_t helpers = std::min(cores(), count) - 1;
    for (int64_t helper = 0; helper < helpers; ++helper) threads.schedule(work);
    work();
    while (progress->done < count) std::this_thread::yield();
    if (progress->failed) return {XLA_FFI_Error_Code_RESOURCE_EXHAUSTED, "out of memory"};
    return {};
  }

  const ffi::Span<int64_t> axes_;
};

}  // namespace
