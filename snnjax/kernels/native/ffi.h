// XLA's foreign function interface as far as the kernels need it: a thin layer on its C API.
//
// XLA's own C++ header, xla/ffi/api/ffi.h, took more than half of the time in which the kernels compiled: reading it took
// almost a second per source, and its binding of parameters, a template for each kernel, another one.

#pragma once

#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <new>
#include <stdexcept>

#include "xla/ffi/api/c_api.h"

namespace ffi {

// Some values in a row.
template <typename T>
class Span {
 public:
  Span(const T* begin, int64_t size) : begin_(begin), size_(size) {}

  const T* begin() const { return begin_; }
  const T* end() const { return begin_ + size_; }
  int64_t size() const { return size_; }
  const T& operator[](int64_t index) const { return begin_[index]; }
  Span first(int64_t count) const { return {begin_, count}; }
  Span last(int64_t count) const { return {end() - count, count}; }

 private:
  const T* begin_;
  int64_t size_;
};

// The element types of buffers and settings.
template <typename T>
inline constexpr XLA_FFI_DataType kType = XLA_FFI_DataType_INVALID;
template <>
inline constexpr XLA_FFI_DataType kType<bool> = XLA_FFI_DataType_PRED;
template <>
inline constexpr XLA_FFI_DataType kType<uint8_t> = XLA_FFI_DataType_U8;
template <>
inline constexpr XLA_FFI_DataType kType<int32_t> = XLA_FFI_DataType_S32;
template <>
inline constexpr XLA_FFI_DataType kType<int64_t> = XLA_FFI_DataType_S64;
template <>
inline constexpr XLA_FFI_DataType kType<float> = XLA_FFI_DataType_F32;

// The arguments and results of a call that have not been read yet. Python checks what users pass, so that it raises only
// if Python and C++ disagree about a kernel.
struct Frame {
  const XLA_FFI_CallFrame& call;
  int64_t args = 0, rets = 0;

  const XLA_FFI_Buffer& argument() {
    check(args < call.args.size && call.args.types[args] == XLA_FFI_ArgType_BUFFER, "there are too few arguments");
    return *static_cast<const XLA_FFI_Buffer*>(call.args.args[args++]);
  }

  const XLA_FFI_Buffer& result() {
    check(rets < call.rets.size && call.rets.types[rets] == XLA_FFI_RetType_BUFFER, "there are too few results");
    return *static_cast<const XLA_FFI_Buffer*>(call.rets.rets[rets++]);
  }

  void check_complete() const {
    check(args == call.args.size && rets == call.rets.size, "there are too many arguments or results");
  }

  static void check(bool fits, const char* otherwise) {
    if (!fits) throw std::invalid_argument(otherwise);
  }
};

// An argument.
template <typename T>
class Buffer {
 public:
  explicit Buffer(Frame& frame) : Buffer(frame.argument()) {}

  explicit Buffer(const XLA_FFI_Buffer& buffer) : buffer_(&buffer) {
    Frame::check(buffer.dtype == kType<T>, "the type of a buffer is another one");
  }

  T* typed_data() const { return static_cast<T*>(buffer_->data); }
  Span<int64_t> dimensions() const { return {buffer_->dims, buffer_->rank}; }
  int64_t size_bytes() const { return element_count() * sizeof(T); }

  int64_t element_count() const {
    int64_t count = 1;
    for (const int64_t size : dimensions()) count *= size;
    return count;
  }

 private:
  const XLA_FFI_Buffer* buffer_;
};

// A result, used like a pointer to its buffer.
template <typename Buffer>
class Result {
 public:
  explicit Result(Frame& frame) : buffer_(frame.result()) {}

  const Buffer& operator*() const { return buffer_; }
  const Buffer* operator->() const { return &buffer_; }

 private:
  Buffer buffer_;
};

// The settings of a call by name: numbers, flags and arrays of numbers.
class Dictionary {
 public:
  explicit Dictionary(Frame& frame) : attrs_(frame.call.attrs) {}

  template <typename T>
  T scalar(const char* name) const {
    const auto& value = *static_cast<const XLA_FFI_Scalar*>(find(name, XLA_FFI_AttrType_SCALAR));
    Frame::check(value.dtype == kType<T>, name);
    return *static_cast<const T*>(value.value);
  }

  Span<int64_t> array(const char* name) const {
    const auto& values = *static_cast<const XLA_FFI_Array*>(find(name, XLA_FFI_AttrType_ARRAY));
    Frame::check(values.dtype == kType<int64_t>, name);
    return {static_cast<const int64_t*>(values.data), int64_t(values.size)};
  }

 private:
  const void* find(const char* name, XLA_FFI_AttrType type) const {
    int64_t index = 0;
    while (index < attrs_.size && !is_named(*attrs_.names[index], name)) ++index;
    Frame::check(index < attrs_.size && attrs_.types[index] == type, name);
    return attrs_.attrs[index];
  }

  static bool is_named(const XLA_FFI_ByteSpan& span, const char* name) {
    return span.len == std::strlen(name) && !std::memcmp(span.ptr, name, span.len);
  }

  const XLA_FFI_Attrs& attrs_;
};

// The threads of XLA.
class ThreadPool {
 public:
  explicit ThreadPool(Frame& frame) : call_(frame.call) {}

  // Does a task on any thread, on this one if XLA has no other thread.
  void schedule(std::function<void()> task) {
    auto* const owned = new std::function<void()>(std::move(task));
    const auto perform = [](void* data) {
      auto* const task = static_cast<std::function<void()>*>(data);
      (*task)();
      delete task;
    };
    XLA_FFI_ThreadPool_Schedule_Args args = {};
    args.struct_size = XLA_FFI_ThreadPool_Schedule_Args_STRUCT_SIZE;
    args.ctx = call_.ctx;
    args.task = perform;
    args.data = owned;
    if (XLA_FFI_Error* error = call_.api->XLA_FFI_ThreadPool_Schedule(&args)) {
      XLA_FFI_Error_Destroy_Args destroyed = {};
      destroyed.struct_size = XLA_FFI_Error_Destroy_Args_STRUCT_SIZE;
      destroyed.error = error;
      call_.api->XLA_FFI_Error_Destroy(&destroyed);
      perform(owned);
    }
  }

 private:
  const XLA_FFI_CallFrame& call_;
};

// What has gone wrong in a call, if anything.
struct Error {
  XLA_FFI_Error_Code code = XLA_FFI_Error_Code_OK;
  const char* message = "";
};

inline XLA_FFI_Error* raised(const XLA_FFI_CallFrame& call, const Error& error) {
  if (error.code == XLA_FFI_Error_Code_OK) return nullptr;
  XLA_FFI_Error_Create_Args args = {};
  args.struct_size = XLA_FFI_Error_Create_Args_STRUCT_SIZE;
  args.message = error.message;
  args.errc = error.code;
  return call.api->XLA_FFI_Error_Create(&args);
}

// Before the first call XLA asks for which version of the interface a kernel was compiled; whether it asks for that.
inline bool tells_version(const XLA_FFI_CallFrame& call) {
  if (!call.extension_start || call.extension_start->type != XLA_FFI_Extension_Metadata) return false;
  XLA_FFI_Metadata& metadata = *reinterpret_cast<XLA_FFI_Metadata_Extension*>(call.extension_start)->metadata;
  metadata.api_version = {XLA_FFI_Api_Version_STRUCT_SIZE, nullptr, XLA_FFI_API_MAJOR, XLA_FFI_API_MINOR};
  metadata.traits = 0;
  metadata.state_type_id = XLA_FFI_UNKNOWN_TYPE_ID;
  return true;
}

// The result of a kernel with these parameters, each made from the frame: braces make them in order.
template <typename... Params>
struct Call {
  const Error error;
  Call(Error (*kernel)(Params...), Params... params) : error(kernel(params...)) {}
};

template <typename... Params>
XLA_FFI_Error* call(Error (*kernel)(Params...), XLA_FFI_CallFrame* call) {
  if (tells_version(*call)) return nullptr;
  Frame frame{*call};
  try {
    return raised(*call, Call<Params...>{kernel, Params(frame)...}.error);
  } catch (const std::bad_alloc&) {
    return raised(*call, {XLA_FFI_Error_Code_RESOURCE_EXHAUSTED, "out of memory"});
  } catch (const std::exception& error) {
    return raised(*call, {XLA_FFI_Error_Code_INVALID_ARGUMENT, error.what()});
  }
}

}  // namespace ffi

// Defines the symbol by which Python registers a kernel, which takes the threads, arguments, settings and results.
#define SNNJAX_KERNEL(name) \
  extern "C" XLA_FFI_Error* snnjax_##name(XLA_FFI_CallFrame* call) { return ffi::call(name, call); }
