// Fibers: stacks, the switch between them, and the calls that tell AddressSanitizer about it.
#include "fiber.h"
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulation {
namespace {

constexpr size_t kGuard = 16 << 10;     // whole pages on machines with pages of 4 or 16 KiB
#ifdef __SANITIZE_ADDRESS__
constexpr size_t kStack = 256 << 10;    // frames are several times larger there
#else
constexpr size_t kStack = 64 << 10;
#endif

Fiber* entered = nullptr;               // only one at a time, because the machine holds a lock

#ifdef __SANITIZE_ADDRESS__
const void* scheduler_stack;
size_t scheduler_stack_size;
void* scheduler_fake_stack;
void before_switch(void** fake_stack, const void* stack, size_t size) { __sanitizer_start_switch_fiber(fake_stack, stack, size); }
void in_fiber(void* fake_stack) { __sanitizer_finish_switch_fiber(fake_stack, &scheduler_stack, &scheduler_stack_size); }
void in_scheduler() { __sanitizer_finish_switch_fiber(scheduler_fake_stack, nullptr, nullptr); }
void forget(const void* stack, size_t size) { __asan_unpoison_memory_region(stack, size); }
#else
const void* scheduler_stack;
size_t scheduler_stack_size;
void* scheduler_fake_stack;
void before_switch(void**, const void*, size_t) {}
void in_fiber(void*) {}
void in_scheduler() {}
void forget(const void*, size_t) {}
#endif

}   // namespace

//----------------------------------------------------------------------------
// The switch saves the registers that a call must preserve and the stack pointer, and loads those of the other side.

#ifdef SPIDER_EMULATION_UCONTEXT
namespace { ucontext_t scheduler_context; }
#else
extern "C" void spider_emulation_switch(void** save, void* load);
asm(R"(
.text
.hidden spider_emulation_switch
.globl spider_emulation_switch
.type spider_emulation_switch, @function
spider_emulation_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size spider_emulation_switch, . - spider_emulation_switch
)");
namespace { void* scheduler_stack_pointer; }
#endif

//----------------------------------------------------------------------------

Fiber::Fiber()
{
    void* memory = mmap(nullptr, kGuard + kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, kGuard, PROT_NONE) != 0) {
        std::perror("emulation: no memory for a fiber's stack");
        std::abort();
    }
    stack_ = static_cast<char*>(memory) + kGuard;
}

Fiber::~Fiber()
{
    munmap(stack_ - kGuard, kGuard + kStack);
}

void Fiber::start(void (*function)())
{
    forget(stack_, kStack);
    function_ = function;
    fake_stack_ = nullptr;
#ifdef SPIDER_EMULATION_UCONTEXT
    getcontext(&context_);
    context_.uc_stack.ss_sp = stack_;
    context_.uc_stack.ss_size = kStack;
    context_.uc_link = nullptr;
    makecontext(&context_, Fiber::run, 0);
#else
    void** top = reinterpret_cast<void**>(stack_ + kStack);
    *--top = nullptr;                               // return address of run(), which does not return
    *--top = reinterpret_cast<void*>(&Fiber::run);  // the first switch returns here, with the stack aligned as after a call
    for (int i = 0; i < 6; i++)
        *--top = nullptr;
    stack_pointer_ = top;
#endif
}

void Fiber::run()
{
    in_fiber(nullptr);
    entered->function_();
    entered->leave(true);
    std::abort();
}

void Fiber::enter()
{
    entered = this;
    before_switch(&scheduler_fake_stack, stack_, kStack);
#ifdef SPIDER_EMULATION_UCONTEXT
    swapcontext(&scheduler_context, &context_);
#else
    spider_emulation_switch(&scheduler_stack_pointer, stack_pointer_);
#endif
    in_scheduler();
}

void Fiber::leave(bool for_good)
{
    before_switch(for_good ? nullptr : &fake_stack_, scheduler_stack, scheduler_stack_size);
#ifdef SPIDER_EMULATION_UCONTEXT
    swapcontext(&context_, &scheduler_context);
#else
    spider_emulation_switch(&stack_pointer_, scheduler_stack_pointer);
#endif
    in_fiber(fake_stack_);
}

}   // namespace emulation
