// The scheduler: the order of threads, their waits for each other, and the detection of waits that cannot end.
#include "machine.h"
#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <mutex>
#include <numeric>

namespace emulation {

Machine machine;

namespace {

std::mutex one_launch_at_a_time;

std::string format(const char* text, ...) __attribute__((format(printf, 1, 2)));
std::string format(const char* text, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, text);
    std::vsnprintf(line, sizeof line, text, arguments);
    va_end(arguments);
    return line;
}

}   // namespace

//----------------------------------------------------------------------------
// Launch: the limits of a device, then the blocks.

int Machine::launch(const char* kernel, dim3 grid, dim3 block, size_t dynamic_bytes, const std::function<void()>& body)
{
    std::lock_guard<std::mutex> lock(one_launch_at_a_time);
    kernel_ = kernel;
    message.clear();
    faulted_ = false;
    current = nullptr;
    launches++;
    const uint64_t count = uint64_t(block.x) * block.y * block.z, blocks = uint64_t(grid.x) * grid.y * grid.z;
    if (count == 0 || count > 1024 || block.z > 64)
        report(nullptr, format("block of %u x %u x %u threads", block.x, block.y, block.z));
    else if (blocks == 0 || grid.x > 0x7FFFFFFF || grid.y > 65535 || grid.z > 65535)
        report(nullptr, format("grid of %u x %u x %u blocks", grid.x, grid.y, grid.z));
    else if (dynamic_bytes > 48 << 10)
        report(nullptr, format("%zu bytes of dynamic shared memory", dynamic_bytes));
    if (faulted_)
        return 1;

    body_ = &body;
    grid_size = grid;
    block_size = block;
    dynamic_shared.resize(dynamic_bytes);
    dynamic_shadow.resize(dynamic_bytes);
    random_state_ = 0x9E3779B97F4A7C15 * (schedule + 1);
    warp_epoch.resize(1024 / kWarp);
    while (threads_.size() < count)
        threads_.push_back(std::make_unique<Thread>());
    order_.resize(count);
    std::iota(order_.begin(), order_.end(), 0);
    if (schedule == 1)
        std::reverse(order_.begin(), order_.end());

    std::vector<unsigned> shuffled;
    if (schedule > 1) {
        shuffled.resize(blocks);
        std::iota(shuffled.begin(), shuffled.end(), 0);
        permute(shuffled);
    }
    for (uint64_t i = 0; i < blocks; i++) {
        const uint64_t b = schedule == 0 ? i : schedule == 1 ? blocks - 1 - i : shuffled[i];
        block_index = {unsigned(b % grid.x), unsigned(b / grid.x % grid.y), unsigned(b / grid.x / grid.y)};
        if (!run_block())
            return 1;
    }
    return 0;
}

// Every ready thread runs until it waits; then warps, then the block, are released. Returns whether all threads have ended.
bool Machine::run_block()
{
    const unsigned count = order_.size();
    serial++;
    block_epoch = ++epoch;
    std::fill(dynamic_shared.begin(), dynamic_shared.end(), char(0xFF));
    for (unsigned i = 0; i < count; i++) {
        Thread& thread = *threads_[i];
        thread.number = i;
        thread.index = {i % block_size.x, i / block_size.x % block_size.y, i / block_size.x / block_size.y};
        thread.state = State::ready;
        thread.fiber.start([] { (*machine.body_)(); machine.current->state = State::done; });
    }
    for (unsigned left = count; left > 0;) {
        bool moved = false;
        if (schedule > 1)
            permute(order_);
        for (unsigned i : order_) {
            Thread& thread = *threads_[i];
            if (thread.state != State::ready)
                continue;
            moved = true;
            current = &thread;
            thread.fiber.enter();
            if (faulted_)
                return false;
            left -= thread.state == State::done;
        }
        for (unsigned first = 0; first < count; first += kWarp) {
            moved |= release_warp(first, std::min(kWarp, count - first));
            if (faulted_)
                return false;
        }
        if (!moved && !release_block(count))
            return stuck(count);
    }
    return true;
}

//----------------------------------------------------------------------------
// Waiting.

void Machine::barrier(Place place)
{
    current->state = State::at_barrier;
    current->place = place;
    current->fiber.leave();
}

uint64_t Machine::collect(Collective kind, uint32_t mask, uint64_t value, unsigned source, Place place)
{
    Thread& thread = *current;
    if (!(mask >> thread.number % kWarp & 1))
        fault("warp collective at %s:%d with mask %08x, which does not name the calling lane", place.file, place.line, mask);
    thread.collective = kind;
    thread.mask = mask;
    thread.value = value;
    thread.source = source;
    thread.place = place;
    thread.state = State::at_collective;
    thread.fiber.leave();
    return thread.result;
}

// Releases each group of lanes that has arrived at its collective, which are all lanes of the mask that exist and have not ended.
bool Machine::release_warp(unsigned first, unsigned count)
{
    bool released = false;
    for (unsigned i = 0; i < count; i++) {
        const Thread& leader = *threads_[first + i];
        if (leader.state != State::at_collective)
            continue;
        uint32_t arrived = 0, ballot = 0;
        bool complete = true;
        for (unsigned lane = 0; lane < count; lane++) {
            const Thread& thread = *threads_[first + lane];
            if (!(leader.mask >> lane & 1) || thread.state == State::done)
                continue;
            complete &= thread.state == State::at_collective;
            if (thread.state != State::at_collective)
                continue;
            if (thread.mask != leader.mask || thread.collective != leader.collective || thread.place.line != leader.place.line) {
                report(&thread, "lanes of one mask are at different collectives: " + describe(leader) + "; " + describe(thread));
                return false;
            }
            arrived |= 1u << lane;
            ballot |= uint32_t(thread.value & 1) << lane;
        }
        if (!complete)
            continue;
        for (unsigned lane = 0; lane < count; lane++) {
            Thread& thread = *threads_[first + lane];
            if (!(arrived >> lane & 1))
                continue;
            if (thread.collective == Collective::shuffle && (thread.source >= count || !(arrived >> thread.source & 1))) {
                report(&thread, format("shuffle at %s:%d takes the value of lane %u, which does not take part",
                                       thread.place.file, thread.place.line, thread.source));
                return false;
            }
            thread.result = thread.collective == Collective::shuffle ? threads_[first + thread.source]->value : ballot;
        }
        for (unsigned lane = 0; lane < count; lane++)
            if (arrived >> lane & 1)
                threads_[first + lane]->state = State::ready;
        if (leader.collective == Collective::sync)      // only __syncwarp() orders memory
            warp_epoch[first / kWarp]++;
        released = true;
    }
    return released;
}

// Releases the block if all of its threads are at one barrier.
bool Machine::release_block(unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (threads_[i]->state != State::at_barrier || threads_[i]->place.line != threads_[0]->place.line)
            return false;
    for (unsigned i = 0; i < count; i++)
        threads_[i]->state = State::ready;
    epoch++;
    return true;
}

// No thread can continue; reports which one waits for which.
bool Machine::stuck(unsigned count)
{
    const Thread *waiting = nullptr, *other = nullptr;
    for (unsigned i = 0; i < count; i++)
        if (threads_[i]->state == State::at_collective || (threads_[i]->state == State::at_barrier && !waiting))
            waiting = threads_[i].get();
    for (unsigned i = 0; i < count && !other; i++)
        if (threads_[i]->state != waiting->state || threads_[i]->place.line != waiting->place.line)
            other = threads_[i].get();
    report(waiting, "deadlock: " + describe(*waiting) + " for threads that never come"
                    + (other ? ": " + describe(*other) : std::string()));
    return false;
}

//----------------------------------------------------------------------------
// Diagnostics.

std::string Machine::describe(const Thread& thread) const
{
    static const char* const names[] = {"runs", "waits at __syncthreads()", "waits at a warp collective", "has ended"};
    const std::string who = format("thread (%u, %u, %u) ", thread.index.x, thread.index.y, thread.index.z);
    const std::string what = who + names[int(thread.state)];
    return thread.state == State::done ? what : what + format(" at %s:%d", thread.place.file, thread.place.line);
}

void Machine::report(const Thread* thread, const std::string& what)
{
    if (faulted_)
        return;
    faulted_ = true;
    message = std::string(kernel_) + ": ";
    if (thread)
        message += format("block (%u, %u, %u), thread (%u, %u, %u): ", block_index.x, block_index.y, block_index.z,
                          thread->index.x, thread->index.y, thread->index.z);
    message += what;
    std::fprintf(stderr, "emulation: %s\n", message.c_str());
}

void Machine::fault(const char* text, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, text);
    std::vsnprintf(line, sizeof line, text, arguments);
    va_end(arguments);
    report(current, line);
    current->fiber.leave();     // the scheduler ends the launch
    std::abort();
}

//----------------------------------------------------------------------------
// xorshift64 (Marsaglia 2003), Fisher-Yates.

uint64_t Machine::random()
{
    random_state_ ^= random_state_ << 13;
    random_state_ ^= random_state_ >> 7;
    random_state_ ^= random_state_ << 17;
    return random_state_;
}

void Machine::permute(std::vector<unsigned>& order)
{
    for (size_t i = order.size(); i > 1; i--)
        std::swap(order[i - 1], order[random() % i]);
}

}   // namespace emulation

//----------------------------------------------------------------------------
// For tests, by ctypes.

extern "C" void spider_emulation_schedule(unsigned schedule) { emulation::machine.schedule = schedule; }
extern "C" const char* spider_emulation_message() { return emulation::machine.message.c_str(); }
extern "C" long spider_emulation_launches() { return emulation::machine.launches; }
