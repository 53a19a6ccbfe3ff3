// The machine that runs a kernel on a CPU. Blocks run one after the other, and the threads of a block are fibers that meet at
// barriers and at warp collectives. If a kernel breaks a rule, that is a fault, which ends the launch with an error that names
// kernel, block, thread and line.
#pragma once
#include "fiber.h"
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

struct uint3 { unsigned x, y, z; };
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace emulation {

constexpr unsigned kWarp = 32;

struct Place { const char* file; int line; };

// The last accesses to an element of shared memory: a write, and up to two threads that have read it since.
struct Shadow {
    struct Access { uint64_t epoch, warp_epoch; unsigned thread; };
    Access write, reads[2];
};

enum class State : uint8_t { ready, at_barrier, at_collective, done };
enum class Collective : uint8_t { sync, shuffle, ballot };

struct Thread {
    Fiber fiber;
    uint3 index;
    unsigned number;            // within the block; its warp is number / 32
    State state;
    Place place;                // where it waits
    // For a collective:
    Collective collective;
    uint32_t mask;              // the lanes that take part
    uint64_t value;             // the value of this lane
    unsigned source;            // for a shuffle, the lane whose value it takes
    uint64_t result;
};

class Machine {
public:
    // The order in which blocks, and threads between barriers, run: 0 ascending, 1 descending, else shuffled with this seed.
    unsigned schedule = 0;

    // Runs a kernel; body is called once in each thread. Returns 0, or 1 and sets `message`.
    int launch(const char* kernel, dim3 grid, dim3 block, size_t dynamic_bytes, const std::function<void()>& body);
    std::string message;        // the first fault of the latest launch
    long launches = 0;

    // For the threads of the running kernel.
    Thread* current = nullptr;
    uint3 block_index;
    dim3 grid_size, block_size;
    uint64_t serial = 0;        // number of the running block, counted through all launches
    uint64_t epoch = 0;         // counts block barriers, and blocks
    uint64_t block_epoch = 0;   // the epoch in which the block began
    std::vector<uint64_t> warp_epoch;   // counts each warp's __syncwarp()
    std::vector<char> dynamic_shared;
    std::vector<Shadow> dynamic_shadow;     // one for each byte; an element uses that of its index

    void barrier(Place place);
    uint64_t collect(Collective kind, uint32_t mask, uint64_t value, unsigned source, Place place);
    [[noreturn]] __attribute__((format(printf, 2, 3))) void fault(const char* format, ...);

private:
    bool run_block();
    bool release_warp(unsigned first, unsigned count);
    bool release_block(unsigned count);
    bool stuck(unsigned count);
    void report(const Thread* thread, const std::string& what);
    std::string describe(const Thread& thread) const;
    void permute(std::vector<unsigned>& order);
    uint64_t random();

    const char* kernel_ = "";
    const std::function<void()>* body_ = nullptr;
    std::vector<std::unique_ptr<Thread>> threads_;
    std::vector<unsigned> order_;
    uint64_t random_state_ = 0;
    bool faulted_ = false;
};

extern Machine machine;

}   // namespace emulation
