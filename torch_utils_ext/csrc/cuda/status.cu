// Version and error texts.
#include "launch.h"

extern "C" int tux_abi_version(void) { return TUX_ABI_VERSION; }

extern "C" const char* tux_error_string(int code)
{
    switch (code) {
    case TUX_OK: return "no error";
    case TUX_BAD_DTYPE: return "no kernel for this dtype";
    case TUX_TOO_LARGE: return "a tensor too large for the kernels: planes hold less than 2^31 pixels";
    case TUX_NO_MEMORY: return "no memory";
    }
#ifdef __CUDACC__
    return cudaGetErrorString(static_cast<cudaError_t>(code));
#elif defined(TUX_DRIVER)
    return driver::error_text(code);
#else
    return emulation::machine.message.c_str();
#endif
}
