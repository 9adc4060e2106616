#include "Archive.h"
#include "Sha256.h"
#include "openmm/OpenMMException.h"
#include <cstring>
#include <istream>
#include <ostream>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

// Marks this integrator's part of a checkpoint, and its version.
static const string CHECKPOINT_MAGIC = "TWMCMC06";
static const size_t DIGEST_SIZE = 64;
static const int NODE_VERSION = 5;
static const char* const VERSION_NAME = "timewarpVersion";

void TimewarpPlugin::refuseRecord() {
    throw OpenMMException("Timewarp: the checkpoint is damaged: it holds impossible numbers; use an older "
                          "checkpoint");
}

void Record::set(const string& name, const vector<Vec3>& value) {
    vector<double> numbers;
    for (const Vec3& v : value)
        numbers.insert(numbers.end(), {v[0], v[1], v[2]});
    set(name, numbers);
}

template <class Type> const Type& Record::find(const string& name) const {
    for (auto& entry : values)
        if (entry.first == name)
            if (auto* value = get_if<Type>(&entry.second))
                return *value;
    throw OpenMMException("Timewarp: the checkpoint is damaged: it lacks " + name +
                          "; use an older checkpoint");
}

void Record::get(const string& name, int64_t& value) const {
    value = find<int64_t>(name);
}

void Record::get(const string& name, double& value) const {
    value = find<double>(name);
}

void Record::get(const string& name, string& value) const {
    value = find<string>(name);
}

void Record::get(const string& name, vector<double>& value) const {
    value = find<vector<double>>(name);
}

void Record::get(const string& name, vector<Vec3>& value) const {
    const vector<double>& numbers = find<vector<double>>(name);
    if (numbers.size() % 3 != 0)
        refuseRecord();
    value.clear();
    for (size_t i = 0; i < numbers.size(); i += 3)
        value.emplace_back(numbers[i], numbers[i + 1], numbers[i + 2]);
}

/*
 * Checkpoints: the mark, the number of bytes, the record and the digest of all that.  Numbers are stored as
 * they are in memory, since a checkpoint is read by the machine that wrote it.
 */

namespace {

class Writer {
public:
    string bytes;

    void number(int64_t value) {
        bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
    }
    void text(const string& value) {
        number(value.size());
        bytes += value;
    }
    void value(int64_t v) {
        number(v);
    }
    void value(double v) {
        bytes.append(reinterpret_cast<const char*>(&v), sizeof(v));
    }
    void value(const string& v) {
        text(v);
    }
    void value(const vector<double>& v) {
        number(v.size());
        bytes.append(reinterpret_cast<const char*>(v.data()), v.size() * sizeof(double));
    }
    void record(const Record& r) {
        text(r.kind);
        number(r.values.size());
        for (auto& entry : r.values) {
            text(entry.first);
            number(entry.second.index());
            visit([this](const auto& v) { value(v); }, entry.second);
        }
        number(r.parts.size());
        for (const Record& part : r.parts)
            record(part);
    }
};

class Reader {
public:
    explicit Reader(const string& bytes) : bytes(bytes) {
    }
    Record record() {
        Record r(text());
        for (int64_t left = size(); left > 0; left--) {
            string name = text();
            r.values.emplace_back(name, value());
        }
        for (int64_t left = size(); left > 0; left--)
            r.parts.push_back(record());
        return r;
    }

private:
    const char* take(size_t count) {
        if (count > bytes.size() - place)
            refuseRecord();
        place += count;
        return bytes.data() + place - count;
    }
    template <class Type> Type number() {
        Type result;
        memcpy(&result, take(sizeof(Type)), sizeof(Type));
        return result;
    }
    /** Of what takes a byte at least. */
    int64_t size() {
        auto count = number<int64_t>();
        if (count < 0 || static_cast<uint64_t>(count) > bytes.size() - place)
            refuseRecord();
        return count;
    }
    string text() {
        int64_t count = size();
        return string(take(count), count);
    }
    Record::Value value() {
        switch (number<int64_t>()) {
        case 0:
            return number<int64_t>();
        case 1:
            return number<double>();
        case 2:
            return text();
        case 3: {
            int64_t count = size();
            vector<double> numbers(count);
            const char* source = take(count * sizeof(double));
            if (count > 0)
                memcpy(numbers.data(), source, count * sizeof(double));
            return numbers;
        }
        }
        refuseRecord();
    }
    const string& bytes;
    size_t place = 0;
};

} // namespace

static string take(istream& stream, size_t size) {
    string bytes(size, '\0');
    stream.read(&bytes[0], size);
    if (!stream)
        throw OpenMMException("Timewarp: the checkpoint is truncated; use an older checkpoint");
    return bytes;
}

void TimewarpPlugin::writeCheckpoint(ostream& stream, const Record& record) {
    Writer writer;
    writer.record(record);
    Writer size;
    size.number(writer.bytes.size());

    // The size has a digest of its own: a damaged one must not ask for memory.

    stream << CHECKPOINT_MAGIC << size.bytes << sha256(size.bytes) << writer.bytes << sha256(writer.bytes);
}

static void checkDigest(const string& bytes, const string& digest) {
    if (sha256(bytes) != digest)
        throw OpenMMException("Timewarp: the checkpoint is damaged; use an older checkpoint");
}

Record TimewarpPlugin::readCheckpoint(istream& stream) {
    if (take(stream, CHECKPOINT_MAGIC.size()) != CHECKPOINT_MAGIC)
        throw OpenMMException("Timewarp: the checkpoint was not made with a TimewarpMCMCIntegrator of this "
                              "version, or is damaged");
    string size = take(stream, sizeof(int64_t));
    checkDigest(size, take(stream, DIGEST_SIZE));
    int64_t count;
    memcpy(&count, size.data(), sizeof(count));
    string bytes = take(stream, count);
    checkDigest(bytes, take(stream, DIGEST_SIZE));
    return Reader(bytes).record();
}

/*
 * States: values are properties of a node, and whatever there may be many of are its children.
 */

namespace {

struct NodeWriter {
    SerializationNode& node;
    const string& name;

    void operator()(int64_t value) const {
        node.setLongProperty(name, value);
    }
    void operator()(double value) const {
        node.setDoubleProperty(name, value);
    }
    void operator()(const string& value) const {
        node.setStringProperty(name, value);
    }
    void operator()(const vector<double>& value) const {
        SerializationNode& list = node.createChildNode("List").setStringProperty("name", name);
        for (double number : value)
            list.createChildNode("Number").setDoubleProperty("value", number);
    }
};

} // namespace

static void writeRecord(SerializationNode& node, const Record& record) {
    // A property does not tell its type, so the names of each type are listed.

    string integers, reals, texts;
    string* lists[] = {&integers, &reals, &texts};
    for (auto& entry : record.values) {
        visit(NodeWriter{node, entry.first}, entry.second);
        if (entry.second.index() < 3)
            *lists[entry.second.index()] += entry.first + " ";
    }
    node.setStringProperty("kind", record.kind);
    node.setStringProperty("integers", integers);
    node.setStringProperty("reals", reals);
    node.setStringProperty("texts", texts);
    for (const Record& part : record.parts)
        writeRecord(node.createChildNode("Part"), part);
}

void TimewarpPlugin::writeNode(SerializationNode& node, const Record& record) {
    node.setIntProperty(VERSION_NAME, NODE_VERSION);
    writeRecord(node, record);
}

bool TimewarpPlugin::nodeHasRecord(const SerializationNode& node) {
    return node.hasProperty(VERSION_NAME) || node.hasProperty("modelSha256");
}

static vector<string> words(const string& text) {
    vector<string> result;
    size_t start = 0, end;
    while ((end = text.find(' ', start)) != string::npos) {
        result.push_back(text.substr(start, end - start));
        start = end + 1;
    }
    return result;
}

static Record readRecord(const SerializationNode& node) {
    Record record(node.getStringProperty("kind"));
    for (const string& name : words(node.getStringProperty("integers")))
        record.set(name, static_cast<int64_t>(node.getLongProperty(name)));
    for (const string& name : words(node.getStringProperty("reals")))
        record.set(name, node.getDoubleProperty(name));
    for (const string& name : words(node.getStringProperty("texts")))
        record.set(name, node.getStringProperty(name));
    for (const SerializationNode& child : node.getChildren()) {
        if (child.getName() == "Part")
            record.parts.push_back(readRecord(child));
        if (child.getName() != "List")
            continue;
        vector<double> numbers;
        for (const SerializationNode& number : child.getChildren())
            numbers.push_back(number.getDoubleProperty("value"));
        record.set(child.getStringProperty("name"), numbers);
    }
    return record;
}

Record TimewarpPlugin::readNode(const SerializationNode& node) {
    int version = node.getIntProperty(VERSION_NAME, 0);
    if (version != NODE_VERSION)
        throw OpenMMException("Timewarp: the State was saved by another version of this plugin (format " +
                              to_string(version) + ", this one reads " + to_string(NODE_VERSION) +
                              "); save it again without integratorParameters, or set positions and "
                              "velocities from it");
    return readRecord(node);
}
