// The scalars and side inputs of an epilogue, for kernels.
#pragma once
#include "../abi.h"
#include "../kernels/epilogue.h"

namespace tux {

template <class A> EpilogueArgs<A> device_args(const tux_epilogue_args& args)
{
    return {static_cast<const A*>(args.demod), static_cast<const A*>(args.noise), static_cast<const A*>(args.bias),
            args.noise_per_sample, A(args.act == TUX_LRELU ? args.alpha : 1), A(args.gain), A(args.clamp)};
}

}   // namespace tux
