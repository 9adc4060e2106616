/*
 * Model files that are damaged, or made to do harm, in thousands of ways: each is loaded or refused with a
 * message, and none takes the process down or asks for more memory than its size explains.  Sanitizers see
 * what does not show otherwise, so that most of them are for `make sanitize`.
 */
#include "ProposalModel.h"
#include "TimewarpTestTargets.h"
#include <algorithm>
#include <array>
#include <atomic>
#include <caffe2/serialize/inline_container.h>
#include <cstdlib>
#include <functional>
#include <malloc.h>
#include <map>
#include <new>
#include <sstream>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
static const int NUM_FILES = 20000;
#else
static const int NUM_FILES = 800;
#endif

// What loading a whole model of this size takes in torch, and beyond it per byte of the file.
static const long BASE_MEMORY = 32 << 20, MEMORY_PER_BYTE = 300;

static std::atomic<long> memoryInUse(0), largestMemory(0);

void* operator new(std::size_t size) {
    void* memory = std::malloc(size == 0 ? 1 : size);
    if (memory == nullptr)
        throw std::bad_alloc();
    long now = memoryInUse += malloc_usable_size(memory);
    if (now > largestMemory)
        largestMemory = now;
    return memory;
}

void operator delete(void* memory) noexcept {
    memoryInUse -= malloc_usable_size(memory);
    std::free(memory);
}

void operator delete(void* memory, std::size_t) noexcept {
    operator delete(memory);
}

using Members = std::map<std::string, std::string>;

static std::string readWhole(const std::string& name) {
    std::ifstream file(TIMEWARP_MODELS "/" + name, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
}

static Members membersOf(const std::string& content) {
    std::istringstream file(content);
    caffe2::serialize::PyTorchStreamReader reader(&file);
    Members members;
    for (const std::string& name : reader.getAllRecords()) {
        auto [data, size] = reader.getRecord(name);
        members[name] = std::string(static_cast<const char*>(data.get()), size);
    }
    return members;
}

/**
 * Write an archive whose checksums are right, so that what reads the members gets to see them.
 */
static std::string archiveOf(const Members& members, bool compress) {
    std::string content;
    {
        caffe2::serialize::PyTorchStreamWriter writer([&content](const void* bytes, size_t size) {
            content.append(static_cast<const char*>(bytes), size);
            return size;
        });
        for (auto& [name, member] : members)
            if (name.rfind(".data/", 0) != 0 && name != "version" && name != "byteorder")
                writer.writeRecord(name, member.data(), member.size(), compress);
        writer.writeEndOfFile();
    }
    return content;
}

/**
 * Does damage of all kinds, by a sequence of random numbers that is always the same.
 */
class Vandal {
public:
    explicit Vandal(const std::vector<std::string>& wholes) : random(20261126) {
        for (const std::string& whole : wholes)
            files.push_back({whole, membersOf(whole)});
    }

    std::string damagedFile() {
        const File& file = files[below(files.size())];
        switch (below(8)) {
        case 0:
            return flipped(file.content, 1 + below(4));
        case 1:
            return file.content.substr(0, below(file.content.size()));
        case 2:
        case 3:
            return withNumbers(file.content, directorySize(file.content));
        case 4:
            return spliced(file.content, files[below(files.size())].content);
        default:
            return withDamagedMember(file.members);
        }
    }

private:
    struct File {
        std::string content;
        Members members;
    };

    size_t below(size_t limit) {
        return limit == 0 ? 0 : random() % limit;
    }

    std::string flipped(std::string text, int count) {
        for (int i = 0; i < count && !text.empty(); i++)
            text[below(text.size())] ^= 1 << below(8);
        return text;
    }

    /** The size of what stands behind the members: the directory with its end. */
    static size_t directorySize(const std::string& content) {
        return content.size() - std::min(content.size(), content.find("PK\x01\x02"));
    }

    /** Numbers at the edges of what fits in 16, 31, 32, 63 and 64 bits, somewhere in the last bytes. */
    std::string withNumbers(std::string text, size_t last) {
        static const std::vector<uint64_t> edges{0,          1,          0x7f,       0xff,      0x7fff,
                                                 0xffff,     0x10000,    0x7fffffff, 1u << 31,  0xfffffffe,
                                                 0xffffffff, 1ull << 32, 1ull << 62, ~0ull / 2, 1ull << 63,
                                                 ~0ull - 1,  ~0ull};
        for (int count = 1 + below(3); count > 0; count--) {
            uint64_t number = edges[below(edges.size())] + (below(4) == 0 ? below(64) : 0);
            size_t size = size_t(1) << below(4), at = text.size() - 1 - below(std::min(last, text.size()));
            for (size_t i = 0; i < size && at + i < text.size(); i++)
                text[at + i] = static_cast<char>(number >> (8 * i));
        }
        return text;
    }

    std::string spliced(std::string text, const std::string& other) {
        size_t from = below(other.size()), size = below(std::min<size_t>(2000, other.size() - from));
        size_t at = below(text.size());
        return text.replace(at, below(3) == 0 ? below(2000) : size, other, from, size);
    }

    /** One part of a text stands there over and over, or within itself. */
    std::string repeated(const std::string& text) {
        static const std::vector<std::pair<std::string, std::string>> brackets{
                {"(", ")"}, {"[", "]"},    {"{\"a\":", "}"}, {"(", "t"},
                {"]", "e"}, {"N\x85", ""}, {"K\x01", ""}};
        auto& [open, close] = brackets[below(brackets.size())];
        size_t count = size_t(1) << below(17), at = below(text.size() + 1);
        std::string inserted;
        for (size_t i = 0; i < count; i++)
            inserted += open;
        if (below(2) == 0)
            for (size_t i = 0; i < count; i++)
                inserted += close;
        return text.substr(0, at) + inserted + text.substr(at);
    }

    std::string lineMoved(const std::string& text) {
        size_t from = text.rfind('\n', below(text.size())), to = text.rfind('\n', below(text.size()));
        if (from == std::string::npos || to == std::string::npos)
            return text;
        size_t end = text.find('\n', from + 1);
        std::string line = text.substr(from, end == std::string::npos ? end : end - from);
        return text.substr(0, to) + line + text.substr(to);
    }

    std::string damaged(const std::string& text, const std::string& other) {
        switch (below(6)) {
        case 0:
            return flipped(text, 1 + below(3));
        case 1:
            return text.substr(0, below(text.size()));
        case 2:
            return text.empty() ? text : withNumbers(text, text.size());
        case 3:
            return text.empty() || other.empty() ? text : spliced(text, other);
        case 4:
            return repeated(text);
        default:
            return lineMoved(text);
        }
    }

    std::string withDamagedMember(Members members) {
        auto one = std::next(members.begin(), below(members.size()));
        auto other = std::next(members.begin(), below(members.size()));
        if (below(10) == 0)
            one->second = other->second;
        else
            one->second = damaged(one->second, other->second);
        return archiveOf(members, below(4) == 0);
    }

    std::mt19937_64 random;
    std::vector<File> files;
};

/**
 * Load a file, and get the message with which it is refused, or nothing.
 */
static std::string refusalOf(const std::string& content) {
    try {
        TimewarpPlugin::ProposalModel model("damaged.pt", content);
        return "";
    }
    catch (const OpenMMException& error) {
        return error.what();
    }
}

void testDamagedFilesAreRefusedOrLoaded() {
    std::vector<std::string> wholes;
    for (const char* name : {"affine_4.pt", "lags_4.pt", "random_4.pt"}) {
        wholes.push_back(readWhole(name));
        ASSERT_EQUAL(std::string(), refusalOf(wholes.back()));
        ASSERT_EQUAL(std::string(), refusalOf(archiveOf(membersOf(wholes.back()), false)));
    }
    Vandal vandal(wholes);
    std::map<std::string, int> reasons;
    long most = 0;
    for (int i = 0; i < NUM_FILES; i++) {
        std::string content = vandal.damagedFile();
        long before = memoryInUse;
        largestMemory = before;
        std::string refusal = refusalOf(content);
        long demanded = largestMemory - before;
        most = std::max(most, demanded);
        if (demanded > BASE_MEMORY + MEMORY_PER_BYTE * (long)content.size())
            throw OpenMMException("file " + std::to_string(i) + " of " + std::to_string(content.size()) +
                                  " bytes demanded " + std::to_string(demanded) + ": " + refusal);
        if (!refusal.empty() &&
            (refusal.rfind("Timewarp: ", 0) != 0 || refusal.find("damaged.pt") == std::string::npos ||
             refusal.find("bad_alloc") != std::string::npos))
            throw OpenMMException("file " + std::to_string(i) + " is refused by '" + refusal + "'");
        reasons[refusal.empty()                                             ? "loaded"
                : refusal.find("before it ran") != std::string::npos        ? "checks"
                : refusal.find("metadata") != std::string::npos             ? "metadata"
                : refusal.find("by this version") != std::string::npos      ? "torch"
                : refusal.find("is not a TorchScript") != std::string::npos ? "archive"
                                                                            : "contract"]++;
    }
    for (auto& [reason, count] : reasons)
        std::cout << reason << " " << count << std::endl;
    std::cout << "memory " << most << std::endl;

    // Each reader has seen enough of them.

    for (const char* reason : {"loaded", "checks", "metadata", "torch", "archive"})
        ASSERT(reasons[reason] >= NUM_FILES / 100);
}

void runTests(Platform& platform) {
    testDamagedFilesAreRefusedOrLoaded();
}
