// The functions of the driver, for one device of architecture 9.0. An image is a text that begins as an ELF file and has in it the
// symbols of its kernels. A function's handle is its name in the registry.
#include "fake_driver.h"
#include <cstring>
#include <cxxabi.h>

namespace fake {
namespace {

std::map<std::string, Call>& calls()
{
    static std::map<std::string, Call> all;
    return all;
}

void replace(std::string& text, const std::string& from, const std::string& to)
{
    for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
        text.replace(at, from.size(), to);
}

// One spelling for the compiler's text, the launcher's expression and a demangled symbol.
std::string spelling(std::string text)
{
    replace(text, "__half", "emulation::Half");
    replace(text, "__nv_bfloat16", "emulation::BFloat16");
    replace(text, "tux::", "");
    replace(text, " ", "");
    return text;
}

int context = 0;            // 0: the thread has none yet

}   // namespace

void add(const char* signature, Call call)
{
    const std::string text = signature;
    const size_t start = text.find("K = ") + 4;
    calls()[spelling(text.substr(start, text.rfind(']') - start))] = call;
}

}   // namespace fake

extern "C" {

int cuInit(unsigned) { return 0; }
int cuDevicePrimaryCtxRetain(void** made, int device) { *made = &fake::context; return device != 0; }
int cuCtxSetCurrent(void* wanted) { fake::context = wanted == &fake::context; return 0; }
int cuCtxGetDevice(int* device) { *device = 0; return fake::context ? 0 : 201; }
int cuDeviceGetAttribute(int* value, int attribute, int) { *value = attribute == 75 ? 9 : 0; return attribute < 75 || attribute > 76; }

int cuModuleLoadData(void** module, const void* image)
{
    *module = const_cast<void*>(image);
    return std::memcmp(image, "\x7f" "ELF", 4) ? 200 : 0;
}

int cuModuleGetFunction(void** handle, void* module, const char* symbol)
{
    if (!std::strstr(static_cast<const char*>(module), symbol))
        return 500;
    int status;
    char* text = abi::__cxa_demangle(symbol, nullptr, nullptr, &status);
    std::string name = status ? symbol : text;
    free(text);
    if (name.rfind("void ", 0) == 0)
        name = name.substr(5, name.find('(') - 5);
    const auto found = fake::calls().find(fake::spelling(name));
    if (found == fake::calls().end())
        return 500;
    *handle = reinterpret_cast<void*>(found->second);
    return 0;
}

int cuLaunchKernel(void* handle, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by, unsigned bz, unsigned dynamic_bytes,
                   void*, void** arguments, void** extra)
{
    if (extra)
        return 1;
    const auto call = reinterpret_cast<fake::Call>(handle);
    return emulation::machine.launch("kernel", dim3(x, y, z), dim3(bx, by, bz), dynamic_bytes, [&] { call(arguments); }) ? 719 : 0;
}

int cuGetErrorString(int code, const char** text)
{
    *text = code == 209 ? "no kernel image is available for execution on the device" : emulation::machine.message.c_str();
    return 0;
}

}
