// The libraries behind abi.h: one table per device kind, opened by torch.ops.torch_utils_ext._open. Entries are named as in abi.h,
// without the prefix.

#pragma once

#include <dlfcn.h>

#include <ATen/core/Tensor.h>
#include <c10/core/DeviceGuard.h>
#include <torch/library.h>

#include "../abi.h"
#include "../cpu/abi_cpu.h"

namespace {

using at::Tensor;

#define TUX_REQUIRED(X) \
    X(abi_version) X(error_string) X(depthwise) X(depthwise_weight_grad_workspace) X(depthwise_weight_grad) \
    X(depthwise_up2) X(depthwise_up2_transpose) X(depthwise_up2_weight_grad_workspace) X(depthwise_up2_weight_grad) \
    X(epilogue) X(epilogue_slope) X(epilogue_backward_workspace) X(epilogue_backward) \
    X(affine_glu) X(affine_glu_backward_workspace) X(affine_glu_backward)
#define TUX_OPTIONAL(X) X(depthwise_backward) X(depthwise_up2_backward) X(depthwise_up2_epilogue) \
    X(conv3x3_workspace) X(conv3x3) X(conv3x3_weight_grad) \
    X(conv3x3_down2_workspace) X(conv3x3_down2) X(conv3x3_down2_transpose) X(conv3x3_down2_weight_grad) \
    X(conv4x4_down2_workspace) X(conv4x4_down2) X(conv4x4_down2_transpose) X(conv4x4_down2_weight_grad) \
    X(moments) X(norm_gradient)

struct Library {
#define TUX_ENTRY(name) decltype(&tux_##name) name = nullptr;
    TUX_REQUIRED(TUX_ENTRY)
    TUX_OPTIONAL(TUX_ENTRY)
#undef TUX_ENTRY
};

Library libraries[2];                               // cpu, cuda
bool opened[2] = {false, false};

void open_library(const std::string& kind, const std::string& path) {
    void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    TORCH_CHECK(handle, dlerror());
    Library found;
#define TUX_ENTRY(name) \
    found.name = (decltype(found.name))dlsym(handle, "tux_" #name); \
    TORCH_CHECK(found.name, path, " lacks tux_" #name);
    TUX_REQUIRED(TUX_ENTRY)
#undef TUX_ENTRY
#define TUX_ENTRY(name) found.name = (decltype(found.name))dlsym(handle, "tux_" #name);
    TUX_OPTIONAL(TUX_ENTRY)
#undef TUX_ENTRY
    TORCH_CHECK(found.abi_version() == TUX_ABI_VERSION, path, " has another version of abi.h");
    libraries[kind == "cuda"] = found;
    opened[kind == "cuda"] = true;
}

const Library& library_of(const Tensor& x) {
    bool cuda = x.device().is_cuda();
    TORCH_CHECK(opened[cuda], "no kernels are loaded for ", x.device());
    return libraries[cuda];
}

// The current stream of x's device, by a C function of torch's CUDA library, because its C++ headers need a CUDA toolkit.
void* stream_of(const Tensor& x) {
    if (!x.device().is_cuda()) return nullptr;
    typedef int (*getter)(int32_t, void**);
    static getter get = [] {
        const char* name = "aoti_torch_get_current_cuda_stream";
        void* symbol = dlsym(RTLD_DEFAULT, name);
        if (!symbol)
            if (void* handle = dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_NOLOAD)) symbol = dlsym(handle, name);
        return (getter)symbol;
    }();
    TORCH_CHECK(get, "this torch has no function for its CUDA stream");
    void* stream = nullptr;
    TORCH_CHECK(get(x.device().index(), &stream) == 0, "no CUDA stream");
    return stream;
}

}  // namespace
