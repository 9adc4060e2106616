#include "ModelArchive.h"
#include "openmm/OpenMMException.h"
#include <algorithm>
#include <array>
#include <caffe2/serialize/inline_container.h>
#include <caffe2/serialize/read_adapter_interface.h>
#include <cctype>
#include <cstdint>
#include <vector>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

// Of what is compressed, which only code is: far above what any flow has, far below a zip bomb.  Code shrinks
// to a sixth of its size.
static const uint64_t MAX_CODE = 64 << 20, SMALL_CODE = 1 << 20, MAX_COMPRESSION = 50;
static const uint64_t MAX_MEMBERS = 100000;

[[noreturn]] static void fail(const string& what) {
    throw OpenMMException(what);
}

/**
 * Numbers of a zip archive are little-endian (APPNOTE.TXT 6.3, section 4.3).
 */
static uint64_t number(const string& content, uint64_t offset, int size) {
    if (offset > content.size() || content.size() - offset < (uint64_t)size)
        fail("it ends too early");
    uint64_t value = 0;
    for (int i = size - 1; i >= 0; i--)
        value = value << 8 | (unsigned char)content[offset + i];
    return value;
}

struct Entry {
    string name;
    uint64_t size, compressedSize, header;
    uint32_t checksum;
    int method;
};

struct Directory {
    uint64_t offset, size, numEntries, end;
};

/**
 * Find the central directory.  It must end where its end records begin, and these where the file ends, so
 * that there is only one place where a reader can look for it.
 */
static Directory findDirectory(const string& content) {
    const uint64_t endSize = 22, locatorSize = 20, end64Size = 56;
    if (content.size() < endSize)
        fail("it is too short");
    uint64_t end = content.size() - endSize;
    auto in = [&](uint64_t offset, int size) { return number(content, offset, size); };
    if (in(end, 4) != 0x06054b50 || in(end + 20, 2) != 0 || in(end + 4, 4) != 0 ||
        in(end + 8, 2) != in(end + 10, 2))
        fail("it does not end with the directory of an archive; it may have been cut off");
    Directory directory{in(end + 16, 4), in(end + 12, 4), in(end + 10, 2), end};
    uint64_t locator = end - min(end, locatorSize), end64 = locator - min(locator, end64Size);
    if (in(locator, 4) == 0x07064b50) {
        if (in(locator + 4, 4) != 0 || in(locator + 8, 8) != end64 || in(locator + 16, 4) != 1 ||
            in(end64, 4) != 0x06064b50 || in(end64 + 4, 8) != end64Size - 12 || in(end64 + 16, 8) != 0 ||
            in(end64 + 24, 8) != in(end64 + 32, 8))
            fail("its directory is damaged");
        directory = {in(end64 + 48, 8), in(end64 + 40, 8), in(end64 + 32, 8), end64};
    }
    if (directory.offset > directory.end || directory.end - directory.offset != directory.size ||
        directory.numEntries > MAX_MEMBERS)
        fail("its directory is damaged");
    return directory;
}

static Entry readEntry(const string& content, uint64_t at) {
    if (number(content, at, 4) != 0x02014b50)
        fail("its directory is damaged");
    Entry entry;
    entry.method = number(content, at + 10, 2);
    entry.checksum = number(content, at + 16, 4);
    entry.compressedSize = number(content, at + 20, 4);
    entry.size = number(content, at + 24, 4);
    entry.header = number(content, at + 42, 4);
    uint64_t nameSize = number(content, at + 28, 2), extra = at + 46 + nameSize;
    uint64_t extraEnd = extra + number(content, at + 30, 2);
    number(content, extraEnd, 0);
    entry.name = content.substr(at + 46, nameSize);

    // Sizes that do not fit are in an extra field.

    while (extra + 4 <= extraEnd) {
        uint64_t kind = number(content, extra, 2), next = extra + 4 + number(content, extra + 2, 2);
        uint64_t field = extra + 4;
        if (kind == 1)
            for (uint64_t* value : {&entry.size, &entry.compressedSize, &entry.header})
                if (*value == 0xffffffff && field + 8 <= next) {
                    *value = number(content, field, 8);
                    field += 8;
                }
        extra = next;
    }
    return entry;
}

static uint64_t entryLength(const string& content, uint64_t at) {
    return 46 + number(content, at + 28, 2) + number(content, at + 30, 2) + number(content, at + 32, 2);
}

static uint64_t largestCode(const string& content) {
    return min(MAX_CODE, SMALL_CODE + MAX_COMPRESSION * content.size());
}

static void checkEntry(const string& content, const Directory& directory, const Entry& entry) {
    if (entry.header > directory.offset || number(content, entry.header, 4) != 0x04034b50)
        fail("the member " + entry.name + " is not where the directory says");
    uint64_t nameSize = number(content, entry.header + 26, 2);
    uint64_t data = entry.header + 30 + nameSize + number(content, entry.header + 28, 2);
    if (content.compare(entry.header + 30, nameSize, entry.name) != 0 ||
        (int)number(content, entry.header + 8, 2) != entry.method)
        fail("the member " + entry.name + " has another header than the directory says");
    if (data > directory.offset || directory.offset - data < entry.compressedSize)
        fail("the member " + entry.name + " has an impossible size");
    if (entry.method == 0 ? entry.size != entry.compressedSize
                          : entry.method != 8 || entry.size > largestCode(content))
        fail("the member " + entry.name + " is stored as torch.jit.save never does");
}

static map<string, Entry> readDirectory(const string& content) {
    Directory directory = findDirectory(content);
    map<string, Entry> entries;
    map<string, string> spelled;
    uint64_t at = directory.offset, compressed = 0;
    string folder;
    for (uint64_t i = 0; i < directory.numEntries; i++) {
        Entry entry = readEntry(content, at);
        at += entryLength(content, at);
        checkEntry(content, directory, entry);
        if (entry.method != 0 && (compressed += entry.size) > largestCode(content))
            fail("its code is too large");
        string top = entry.name.substr(0, entry.name.find('/'));
        if (i == 0)
            folder = top;
        if (top != folder || top.size() + 1 >= entry.name.size())
            fail("the member " + entry.name + " is outside of the folder " + folder);

        // Torch's reader does not tell capitals from small letters.

        string name = entry.name.substr(top.size() + 1), small = name;
        transform(small.begin(), small.end(), small.begin(), [](unsigned char c) { return tolower(c); });
        if (!spelled.emplace(small, name).second)
            fail("it holds two members of the name " + name);
        entries[name] = entry;
    }
    if (at != directory.end || entries.empty())
        fail("its directory is damaged");
    return entries;
}

/**
 * Compute the CRC-32 of some bytes (ISO 3309, as zip archives have it), eight bytes at a time.
 */
static uint32_t crc32(const unsigned char* data, size_t size) {
    static const auto tables = [] {
        array<array<uint32_t, 256>, 8> t;
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t value = i;
            for (int bit = 0; bit < 8; bit++)
                value = (value >> 1) ^ (value & 1 ? 0xedb88320u : 0);
            t[0][i] = value;
        }
        for (int k = 1; k < 8; k++)
            for (uint32_t i = 0; i < 256; i++)
                t[k][i] = (t[k - 1][i] >> 8) ^ t[0][t[k - 1][i] & 0xff];
        return t;
    }();
    uint32_t value = 0xffffffff;
    for (; size >= 8; data += 8, size -= 8) {
        uint32_t low = value ^ (data[0] | data[1] << 8 | data[2] << 16 | (uint32_t)data[3] << 24);
        value = tables[7][low & 0xff] ^ tables[6][low >> 8 & 0xff] ^ tables[5][low >> 16 & 0xff] ^
                tables[4][low >> 24] ^ tables[3][data[4]] ^ tables[2][data[5]] ^ tables[1][data[6]] ^
                tables[0][data[7]];
    }
    for (; size > 0; data++, size--)
        value = (value >> 8) ^ tables[0][(value ^ *data) & 0xff];
    return ~value;
}

namespace {

class MemoryReader : public caffe2::serialize::ReadAdapterInterface {
public:
    explicit MemoryReader(const string& bytes) : bytes(bytes) {
    }
    size_t size() const override {
        return bytes.size();
    }
    size_t read(uint64_t position, void* buffer, size_t count, const char*) const override {
        if (position > bytes.size())
            return 0;
        return bytes.copy(static_cast<char*>(buffer), count, position);
    }

private:
    const string& bytes;
};

} // namespace

shared_ptr<caffe2::serialize::ReadAdapterInterface> TimewarpPlugin::readerOf(const string& bytes) {
    return make_shared<MemoryReader>(bytes);
}

ModelArchive::ModelArchive(const string& content) {
    map<string, Entry> entries = readDirectory(content);
    caffe2::serialize::PyTorchStreamReader reader(readerOf(content));
    if (reader.getAllRecords().size() != entries.size())
        fail("its directory is damaged");
    for (auto& [name, entry] : entries) {
        auto [data, size] = reader.getRecord(name);
        auto* bytes = static_cast<const char*>(data.get());
        if (size != entry.size || crc32((const unsigned char*)bytes, size) != entry.checksum)
            fail("the member " + name + " does not agree with its checksum");
        // What a module was traced with is of no use for running it, so that torch need not see it.
        if (name.compare(0, 13, "traced_inputs") != 0)
            members[name] = string(bytes, size);
    }
}

string ModelArchive::write() const {
    string content;
    size_t size = 0;
    for (auto& [name, member] : members)
        size += member.size();
    content.reserve(size + size / 4);
    caffe2::serialize::PyTorchStreamWriter writer([&content](const void* bytes, size_t size) {
        content.append(static_cast<const char*>(bytes), size);
        return size;
    });
    for (auto& [name, member] : members)
        writer.writeRecord(name, member.data(), member.size());
    writer.writeEndOfFile();
    return content;
}
