// The epilogue of a modulated layer: forward, slope, and all gradients in one pass. See ../abi.h.

#include <math.h>

#include "../abi.h"
#include "launch.h"
#include "strips.h"

namespace tux {

template <class T> struct epilogue {
    typedef arithmetic_t<T> A;
    typedef vec<A> V;
    static const int L = lanes<A>::count;

    const A *demod, *noise, *bias;
    bool noise_per_sample;
    A alpha, gain, clamp, edge;                     // without a bound the last two are NaN, beyond which no value is

    epilogue(const tux_epilogue_args* a) :
        demod((const A*)a->demod), noise((const A*)a->noise), bias((const A*)a->bias), noise_per_sample(a->noise_per_sample),
        alpha(a->act == TUX_LRELU ? a->alpha : 1), gain(a->gain), clamp(a->clamp >= 0 ? a->clamp : NAN)
    {
        T rounded[L];                               // outputs in T from here on count as beyond the clamp
        store(rounded, splat<A>(clamp));
        edge = load(rounded)[0];
    }

    // The parameters of one plane, in registers. NOISY: whether there is noise.
    struct plane {
        V demod, bias, above, below, clamp, edge;
        const A* noise;

        template <bool NOISY> TUX_INLINE V u(V x, int64_t i, int64_t n) const {
            V v = x * demod + bias;
            return NOISY ? v + get(noise + i, n) : v;
        }

        TUX_INLINE V value(V u) const {
            V y = u * (u > 0 ? above : below);
            y = y > clamp ? clamp : y;
            return y < -clamp ? -clamp : y;
        }

        template <bool FROM_OUTPUT, bool NOISY> TUX_INLINE V slope(V saved, int64_t i, int64_t n) const {
            V v = FROM_OUTPUT ? saved : u<NOISY>(saved, i, n), m = v > 0 ? above : below;
            if (FROM_OUTPUT) return (v >= edge) | (v <= -edge) ? V{} : m;
            V y = v * m;
            return (y > clamp) | (y < -clamp) ? V{} : m;
        }
    };

    TUX_INLINE plane at(int64_t n, int64_t c, int64_t C, int64_t HW) const {
        return {splat<A>(demod ? demod[n * C + c] : A(1)), splat<A>(bias ? bias[c] : A(0)), splat<A>(gain), splat<A>(alpha * gain),
                splat<A>(clamp), splat<A>(edge), noise ? noise + (noise_per_sample ? n * HW : 0) : nullptr};
    }
};

template <class T>
int epilogue_forward(const T* x, const tux_epilogue_args* args, T* y, int64_t N, int64_t C, int64_t HW) {
    const epilogue<T> e(args);
    return parallel_planes(N * C, HW, [&](int64_t begin, int64_t end) {
        choose(e.noise, [&](auto noisy) { choose(streams(y, N * C * HW, HW), [&](auto streamed) {
            int64_t n = begin / C, c = begin % C;
            for (int64_t j = begin; j < end; j++) {
                const auto p = e.at(n, c, C, HW);
                const T* from = x + j * HW;
                write_row<streamed()>(y + j * HW, HW, [&](int64_t i, int64_t left) {
                    if (streamed()) read_ahead(from + i);
                    return p.value(p.template u<noisy()>(get(from + i, left), i, left));
                });
                if (++c == C) c = 0, n++;
            }
        }); });
        return TUX_OK;
    });
}

template <class T>
int epilogue_slope(const T* g, const T* saved, int from_output, const tux_epilogue_args* args, T* out, int64_t N, int64_t C,
                   int64_t HW) {
    const epilogue<T> e(args);
    return parallel_planes(N * C, HW, [&](int64_t begin, int64_t end) {
        choose(from_output, [&](auto output) { choose(e.noise, [&](auto noisy) {
            int64_t n = begin / C, c = begin % C;
            for (int64_t j = begin; j < end; j++) {
                const auto p = e.at(n, c, C, HW);
                for (int64_t i = 0; i < HW; i += epilogue<T>::L) {
                    int64_t left = HW - i, at = j * HW + i;
                    put(out + at, get(g + at, left) * p.template slope<output(), noisy()>(get(saved + at, left), i, left), left);
                }
                if (++c == C) c = 0, n++;
            }
        }); });
        return TUX_OK;
    });
}

//---------------------------------------------------------------------------
// A sample's pixels are processed in chunks. Within a chunk all channels are visited, and the sum for the noise stays in the
// first-level cache. Sums over pixels are kept per chunk in the workspace, and added in order.

const int64_t chunk_pixels = 1024;

inline int64_t chunks_of(int64_t HW) { return (HW + chunk_pixels - 1) / chunk_pixels; }

template <class T>
int epilogue_backward(const T* g, const T* saved, int from_output, const tux_epilogue_args* args, T* gx, void* gdemod_, void* gnoise_,
                      void* gbias_, void* workspace, int64_t N, int64_t C, int64_t HW) {
    typedef arithmetic_t<T> A;
    typedef vec<A> V;
    const int L = lanes<A>::count;
    A *gdemod = (A*)gdemod_, *gnoise = (A*)gnoise_, *gbias = (A*)gbias_;
    const epilogue<T> e(args);
    int64_t chunks = chunks_of(HW);
    A* part = (A*)workspace;                        // [N, chunks, C, 2]
    int code = parallel_planes(N * chunks, C * (HW < chunk_pixels ? HW : chunk_pixels), [&](int64_t begin, int64_t end) {
        A noise_sum[chunk_pixels];
        auto chunk = [&](int64_t j, auto output, auto noisy, auto summed, auto streamed) {
            int64_t n = j / chunks, from = j % chunks * chunk_pixels, pixels = HW - from < chunk_pixels ? HW - from : chunk_pixels;
            if (summed()) memset(noise_sum, 0, pixels * sizeof(A));
            for (int64_t c = 0; c < C; c++) {
                auto p = e.at(n, c, C, HW);
                p.noise += noisy() ? from : 0;
                int64_t at = (n * C + c) * HW + from, i = 0;
                V sum = {}, product = {};
                auto step = [&](int64_t i, int64_t left) {
                    if (streamed()) read_ahead(saved + at + i), read_ahead(g + at + i);
                    V x = get(saved + at + i, left), v = get(g + at + i, left) * p.template slope<output(), noisy()>(x, i, left);
                    sum += v;
                    product += v * x;
                    if (summed()) put(noise_sum + i, get(noise_sum + i, left) + v, left);
                    if (left >= L) write<streamed()>(gx + at + i, v * p.demod);
                    else store_part(gx + at + i, v * p.demod, left);
                };
                for (; i + L <= pixels; i += L) step(i, L);
                if (i < pixels) step(i, pixels - i);
                part[(j * C + c) * 2] = sum_lanes<A>(sum);
                part[(j * C + c) * 2 + 1] = sum_lanes<A>(product);
            }
            if (summed()) memcpy(gnoise + n * HW + from, noise_sum, pixels * sizeof(A));
        };
        choose(from_output, [&](auto output) { choose(!output() && e.noise, [&](auto noisy) {
            choose(gnoise, [&](auto summed) { choose(streams(gx, N * C * HW, HW), [&](auto streamed) {
                for (int64_t j = begin; j < end; j++) chunk(j, output, noisy, summed, streamed);
            }); });
        }); });
        return TUX_OK;
    });
    for (int64_t n = 0; n < N; n++)
        for (int64_t c = 0; c < C; c++) {
            A sum = 0, product = 0;
            for (int64_t j = 0; j < chunks; j++) {
                sum += part[((n * chunks + j) * C + c) * 2];
                product += part[((n * chunks + j) * C + c) * 2 + 1];
            }
            if (gbias) gbias[n * C + c] = sum;
            if (gdemod) gdemod[n * C + c] = product;
        }
    return code;
}

}  // namespace tux

//---------------------------------------------------------------------------

extern "C" {

int tux_epilogue(int dtype, const void* x, const tux_epilogue_args* args, void* y,
                 int64_t N, int64_t C, int64_t H, int64_t W, void*) {
    TUX_DISPATCH(dtype, return tux::epilogue_forward((const T*)x, args, (T*)y, N, C, H * W));
}

int tux_epilogue_slope(int dtype, const void* g, const void* saved, int from_output, const tux_epilogue_args* args, void* out,
                       int64_t N, int64_t C, int64_t H, int64_t W, void*) {
    TUX_DISPATCH(dtype, return tux::epilogue_slope((const T*)g, (const T*)saved, from_output, args, (T*)out, N, C, H * W));
}

int64_t tux_epilogue_backward_workspace(int dtype, int64_t N, int64_t C, int64_t H, int64_t W) {
    return N * tux::chunks_of(H * W) * C * 2 * (dtype == TUX_F64 ? 8 : 4);
}

int tux_epilogue_backward(int dtype, const void* g, const void* saved, int from_output, const tux_epilogue_args* args,
                          void* gx, void* gdemod, void* gnoise, void* gbias, void* workspace,
                          int64_t N, int64_t C, int64_t H, int64_t W, void*) {
    TUX_DISPATCH(dtype, return tux::epilogue_backward((const T*)g, (const T*)saved, from_output, args, (T*)gx, gdemod, gnoise, gbias,
                                                      workspace, N, C, H * W));
}

}  // extern "C"
