#ifndef TIMEWARP_ALLOCATION_COUNTER_H_
#define TIMEWARP_ALLOCATION_COUNTER_H_

#include "openmm/OpenMMException.h"
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <link.h>
#include <new>
#include <string>
#include <unwind.h>
#include <utility>
#include <vector>

/**
 * Counts the memory that this project's libraries and the test itself allocate with operator new, in the
 * thread that counts, as long as it exists.  Allocations belong to the code they return to; those of the C++
 * library (strings, streams) to whoever called it.  What libtorch and OpenMM allocate is not counted.
 *
 * This file replaces operator new of the whole process, so one source file of a program includes it.
 */
class AllocationCounter {
public:
    AllocationCounter() : before(count) {
        active++;
    }
    ~AllocationCounter() {
        active--;
    }
    AllocationCounter(const AllocationCounter&) = delete;
    AllocationCounter& operator=(const AllocationCounter&) = delete;
    long get() const {
        return count - before;
    }
    /**
     * Find out where the code of the libraries lies.  To be called once all of them are loaded.
     *
     * @param expected   parts of the names of libraries that must be among them
     */
    static void findLibraries(const std::vector<std::string>& expected) {
        std::vector<std::string> names;
        counted.clear();
        passedOn.clear();
        dl_iterate_phdr(addObject, &names);
        for (const std::string& part : expected) {
            bool found = false;
            for (const std::string& name : names)
                found = found || name.find(part) != std::string::npos;
            if (!found)
                throw OpenMM::OpenMMException("allocations of " + part + " cannot be counted: not loaded");
        }
    }
    /**
     * Called by operator new.
     *
     * @param caller   the address that it returns to
     */
    static void note(void* caller) {
        if (active == 0)
            return;
        std::uintptr_t address = reinterpret_cast<std::uintptr_t>(caller);
        if (isIn(passedOn, address)) {
            Walk walk;
            _Unwind_Backtrace(findCaller, &walk);
            address = walk.caller;
        }
        if (isIn(counted, address))
            count++;
    }

private:
    using Range = std::pair<std::uintptr_t, std::uintptr_t>;

    static bool isIn(const std::vector<Range>& ranges, std::uintptr_t address) {
        for (const Range& range : ranges)
            if (address >= range.first && address < range.second)
                return true;
        return false;
    }
    static int addObject(dl_phdr_info* info, std::size_t, void* names) {
        // The program itself has no name, and is the first.

        auto& found = *static_cast<std::vector<std::string>*>(names);
        std::string name = info->dlpi_name;
        bool isOurs = found.empty() || name.find("libTimewarpOpenMM") != std::string::npos;
        found.push_back(name);
        bool isStandard = name.find("libstdc++") != std::string::npos;
        for (int i = 0; i < info->dlpi_phnum; i++) {
            const ElfW(Phdr) & part = info->dlpi_phdr[i];
            std::uintptr_t start = info->dlpi_addr + part.p_vaddr;
            if (part.p_type == PT_LOAD && (part.p_flags & PF_X) && (isOurs || isStandard))
                (isOurs ? counted : passedOn).emplace_back(start, start + part.p_memsz);
        }
        return 0;
    }
    /** What called the C++ library, once the way up the stack has come through it. */
    struct Walk {
        bool wasInLibrary = false;
        std::uintptr_t caller = 0;
    };
    static _Unwind_Reason_Code findCaller(_Unwind_Context* context, void* data) {
        Walk& walk = *static_cast<Walk*>(data);
        std::uintptr_t here = _Unwind_GetIP(context);
        bool isInLibrary = isIn(passedOn, here);
        if (walk.wasInLibrary && !isInLibrary) {
            walk.caller = here;
            return _URC_END_OF_STACK;
        }
        walk.wasInLibrary = isInLibrary;
        return _URC_NO_REASON;
    }

    static inline std::vector<Range> counted, passedOn;
    static inline thread_local int active = 0;
    static inline thread_local long count = 0;
    long before;
};

/**
 * Get memory, or NULL, and note who asked for it.  An alignment of 0 stands for the usual one.
 */
inline void* allocateNoted(std::size_t size, std::size_t alignment, void* caller) noexcept {
    AllocationCounter::note(caller);
    if (alignment == 0)
        return std::malloc(size == 0 ? 1 : size);
    return std::aligned_alloc(alignment, (size / alignment + 1) * alignment);
}

inline void* allocateOrThrow(std::size_t size, std::size_t alignment, void* caller) {
    void* memory = allocateNoted(size, alignment, caller);
    if (memory == nullptr)
        throw std::bad_alloc();
    return memory;
}

void* operator new(std::size_t size) {
    return allocateOrThrow(size, 0, __builtin_return_address(0));
}
void* operator new[](std::size_t size) {
    return allocateOrThrow(size, 0, __builtin_return_address(0));
}
void* operator new(std::size_t size, std::align_val_t alignment) {
    return allocateOrThrow(size, static_cast<std::size_t>(alignment), __builtin_return_address(0));
}
void* operator new[](std::size_t size, std::align_val_t alignment) {
    return allocateOrThrow(size, static_cast<std::size_t>(alignment), __builtin_return_address(0));
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
    return allocateNoted(size, 0, __builtin_return_address(0));
}
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept {
    return allocateNoted(size, 0, __builtin_return_address(0));
}
void* operator new(std::size_t size, std::align_val_t alignment, const std::nothrow_t&) noexcept {
    return allocateNoted(size, static_cast<std::size_t>(alignment), __builtin_return_address(0));
}
void* operator new[](std::size_t size, std::align_val_t alignment, const std::nothrow_t&) noexcept {
    return allocateNoted(size, static_cast<std::size_t>(alignment), __builtin_return_address(0));
}

// Memory of all of them goes back in the same way.

void operator delete(void* memory) noexcept {
    std::free(memory);
}
void operator delete[](void* memory) noexcept {
    std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
    std::free(memory);
}
void operator delete[](void* memory, std::size_t) noexcept {
    std::free(memory);
}
void operator delete(void* memory, std::align_val_t) noexcept {
    std::free(memory);
}
void operator delete[](void* memory, std::align_val_t) noexcept {
    std::free(memory);
}
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
    std::free(memory);
}
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept {
    std::free(memory);
}
void operator delete(void* memory, const std::nothrow_t&) noexcept {
    std::free(memory);
}
void operator delete[](void* memory, const std::nothrow_t&) noexcept {
    std::free(memory);
}
void operator delete(void* memory, std::align_val_t, const std::nothrow_t&) noexcept {
    std::free(memory);
}
void operator delete[](void* memory, std::align_val_t, const std::nothrow_t&) noexcept {
    std::free(memory);
}

#endif /*TIMEWARP_ALLOCATION_COUNTER_H_*/
