// A CUDA driver that runs kernels on the emulation, for tests of csrc/driver/. The launchers in csrc/cuda/ are compiled after this
// header, so that each instance of a kernel they name registers itself here, to be called with a driver's array of pointers.
#pragma once
#include "emulation/cuda.h"
#include <functional>
#include <map>
#include <string>

namespace fake {

typedef void (*Call)(void** arguments);
void add(const char* signature, Call call);

template <auto K> const char* signature() { return __PRETTY_FUNCTION__; }

template <auto K> struct Kernel;

template <class... P, void (*K)(P...)> struct Kernel<K> {
    template <size_t... I> static void spread(void** arguments, std::index_sequence<I...>)
    {
        K(*static_cast<P*>(arguments[I])...);
    }
    static void call(void** arguments) { spread(arguments, std::index_sequence_for<P...>()); }
    static bool known;
    static int launch(unsigned, unsigned, size_t, void*, P...) { return !known; }
};

template <class... P, void (*K)(P...)> bool Kernel<K>::known = (add(signature<K>(), &call), true);

}   // namespace fake

#undef LAUNCH
#define LAUNCH(kernel, grid, block, dynamic_bytes, stream, ...) \
    (::fake::Kernel<kernel>::launch(grid, block, dynamic_bytes, stream, __VA_ARGS__))
