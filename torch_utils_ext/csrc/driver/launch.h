// Launches of kernels that NVRTC has compiled, by the CUDA driver: the launchers in csrc/cuda/ compile against this with a C++17
// compiler, no CUDA toolkit. A kernel's body is only seen by NVRTC. Each instance that a launcher names registers itself when the
// library is opened, with its name as C++ text; torch_utils_ext/nvrtc.py has these texts compiled and hands the images back.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace driver {

constexpr int kDevices = 64;    // the most devices of a process

struct Function {
    std::string expression, symbol;         // as C++ text, and as the image names it
    std::atomic<void*> handles[kDevices] = {};

    explicit Function(std::string_view signature);      // of signature<K>()
};

// Returns a CUresult, 0 where the kernel was queued on the stream of the current device.
int launch(Function& function, unsigned grid, unsigned block, size_t dynamic_bytes, void* stream, void** arguments);

const char* error_text(int code);           // static storage

// '... [with auto K = NAME]' from g++, '... [K = &NAME]' from clang.
template <auto K> const char* signature() { return __PRETTY_FUNCTION__; }

template <auto K> struct Kernel;

template <class... P, void (*K)(P...)> struct Kernel<K> {
    static Function function;

    static int launch(unsigned grid, unsigned block, size_t dynamic_bytes, void* stream, P... arguments)
    {
        void* pointers[] = {const_cast<void*>(static_cast<const void*>(&arguments))...};
        return ::driver::launch(function, grid, block, dynamic_bytes, stream, pointers);
    }
};

template <class... P, void (*K)(P...)> Function Kernel<K>::function{signature<K>()};

}   // namespace driver

#undef LAUNCH
#define LAUNCH(kernel, grid, block, dynamic_bytes, stream, ...) \
    (::driver::Kernel<kernel>::launch(grid, block, dynamic_bytes, stream, __VA_ARGS__))
