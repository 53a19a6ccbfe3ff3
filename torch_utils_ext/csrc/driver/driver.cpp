// The CUDA driver, opened by name, and the images of the kernels for each architecture. Types and numbers are those of the
// driver's documented interface.
#include "launch.h"
#include "../abi.h"
#include <cstring>
#include <dlfcn.h>
#include <map>

namespace driver {
namespace {

enum Code { kNotInitialized = 3, kNoImage = 209, kNotFound = 500, kInvalidContext = 201 };
enum Attribute { kMajor = 75, kMinor = 76 };

struct Api {
    int (*cuInit)(unsigned);
    int (*cuCtxGetDevice)(int*);
    int (*cuCtxSetCurrent)(void*);
    int (*cuDevicePrimaryCtxRetain)(void**, int);
    int (*cuDeviceGetAttribute)(int*, int, int);
    int (*cuModuleLoadData)(void**, const void*);
    int (*cuModuleGetFunction)(void**, void*, const char*);
    int (*cuLaunchKernel)(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**, void**);
    int (*cuGetErrorString)(int, const char**);
};

Api api;
bool opened = false;
std::string why_not;                        // the reason why the driver could not be opened
std::mutex loading;
std::map<int, std::string> images;          // architecture, such as 90 -> cubin
void* modules[kDevices];

std::vector<Function*>& functions()
{
    static std::vector<Function*> all;      // within a function, because functions register before other statics are made
    return all;
}

// The device of the calling thread. A thread without one takes the first, as under the CUDA runtime.
int current_device(int& device)
{
    int code = api.cuCtxGetDevice(&device);
    void* context;
    if (code != kInvalidContext)
        return code;
    if ((code = api.cuInit(0)) || (code = api.cuDevicePrimaryCtxRetain(&context, 0)) || (code = api.cuCtxSetCurrent(context)))
        return code;
    return api.cuCtxGetDevice(&device);
}

int load(Function& function, int device, void*& handle)
{
    std::lock_guard<std::mutex> lock(loading);
    if (!modules[device]) {
        int major, minor, code;
        if ((code = api.cuDeviceGetAttribute(&major, kMajor, device)) || (code = api.cuDeviceGetAttribute(&minor, kMinor, device)))
            return code;
        const auto image = images.find(10 * major + minor);
        if (image == images.end())
            return kNoImage;
        if ((code = api.cuModuleLoadData(&modules[device], image->second.data())))
            return code;
    }
    if (const int code = api.cuModuleGetFunction(&handle, modules[device], function.symbol.c_str()))
        return code;
    function.handles[device].store(handle, std::memory_order_release);
    return 0;
}

}   // namespace

Function::Function(std::string_view signature)
{
    const size_t start = signature.find("K = ") + 4;
    expression = signature.substr(start, signature.rfind(']') - start);
    if (expression[0] == '&')
        expression.erase(0, 1);
    functions().push_back(this);
}

int launch(Function& function, unsigned grid, unsigned block, size_t dynamic_bytes, void* stream, void** arguments)
{
    if (!opened)
        return kNotInitialized;
    int device;
    if (const int code = current_device(device))
        return code;
    if (device >= kDevices)
        return kNotFound;
    void* handle = function.handles[device].load(std::memory_order_acquire);
    if (!handle)
        if (const int code = load(function, device, handle))
            return code;
    return api.cuLaunchKernel(handle, grid, 1, 1, block, 1, 1, unsigned(dynamic_bytes), stream, arguments, nullptr);
}

const char* error_text(int code)
{
    const char* text = nullptr;
    if (!opened)
        return why_not.empty() ? "the CUDA driver was not opened" : why_not.c_str();
    return api.cuGetErrorString(code, &text) || !text ? "an error that the CUDA driver does not name" : text;
}

}   // namespace driver

//----------------------------------------------------------------------------
// For torch_utils_ext/nvrtc.py, which calls these once, before the first launch.

// Opens the driver, usually libcuda.so.1. Returns NULL, or why it cannot be used.
extern "C" const char* tux_driver_open(const char* path)
{
    using namespace driver;
    void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        why_not = dlerror();
        return why_not.c_str();
    }
#define FIND(name, symbol) \
    if (!(api.name = reinterpret_cast<decltype(api.name)>(dlsym(library, symbol)))) \
        return (why_not = std::string(path) + " lacks " symbol).c_str();
    FIND(cuInit, "cuInit")
    FIND(cuCtxGetDevice, "cuCtxGetDevice")
    FIND(cuCtxSetCurrent, "cuCtxSetCurrent")
    FIND(cuDevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain")
    FIND(cuDeviceGetAttribute, "cuDeviceGetAttribute")
    FIND(cuModuleLoadData, "cuModuleLoadData")
    FIND(cuModuleGetFunction, "cuModuleGetFunction")
    FIND(cuLaunchKernel, "cuLaunchKernel")
    FIND(cuGetErrorString, "cuGetErrorString")
#undef FIND
    opened = true;
    return nullptr;
}

extern "C" int tux_driver_count(void) { return int(driver::functions().size()); }

extern "C" const char* tux_driver_expression(int i) { return driver::functions()[i]->expression.c_str(); }

extern "C" void tux_driver_symbol(int i, const char* symbol) { driver::functions()[i]->symbol = symbol; }

// The cubin of all kernels for one architecture, such as 90. The bytes are copied.
extern "C" void tux_driver_image(int architecture, const void* data, size_t bytes)
{
    driver::images[architecture] = std::string(static_cast<const char*>(data), bytes);
}
