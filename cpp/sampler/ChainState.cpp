#include "ChainState.h"
#include "Sha256.h"
#include "openmm/OpenMMException.h"
#include <algorithm>
#include <cmath>
#include <cstring>
#include <istream>
#include <ostream>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

// Marks this integrator's part of a checkpoint, and its version.
static const string CHECKPOINT_MAGIC = "TWMCMC04";
static const size_t DIGEST_SIZE = 64;
static const int NODE_VERSION = 3;
// More than anybody computes ahead; a larger number is a damaged one.
static const int64_t MAX_PREFETCHED = 1 << 20;

string TimewarpPlugin::digestOfPositions(const vector<Vec3>& positions) {
    return sha256(positions.data(), positions.size() * sizeof(Vec3));
}

static void checkIdentity(const string& modelSha256, const string& particlesSha256,
                          const ChainIdentity& identity) {
    if (modelSha256 != identity.modelSha256)
        throw OpenMMException("Timewarp: the checkpoint was made with another model (SHA-256 " + modelSha256 +
                              ") than " + identity.modelName + " (" + identity.modelSha256 +
                              "); create the integrator with the model of the checkpoint");
    if (particlesSha256 != identity.particlesSha256)
        throw OpenMMException(
                "Timewarp: the checkpoint is of a chain that moves other particles; create the integrator "
                "with the same topology=, or call setParticles() with the same particles, as there");
}

/**
 * Throw an exception if a state cannot be one of this chain.
 */
static void checkState(const ChainState& state, const ChainIdentity& identity) {
    const ChainCounters& c = state.counters;
    auto within = [](int64_t count, int64_t all) { return count >= 0 && count <= all; };
    bool counts = within(c.numAccepted, c.numSteps) && within(c.numSteps, c.iteration) &&
                  within(c.numNonFinite, c.iteration) && within(c.numSurrogateAccepted, c.iteration) &&
                  c.numDiscarded >= 0 && c.replica >= 0;
    bool prefetched = c.prefetchSize >= 0 && c.prefetchSize <= MAX_PREFETCHED && c.prefetchStart >= 0 &&
                      c.prefetchStart <= c.iteration &&
                      state.prefetchPositions.size() == (c.prefetchSize > 0 ? identity.numAtoms : 0);
    auto finite = [](double value) { return isfinite(value); };
    bool weights = state.lagWeights.size() == identity.numLags &&
                   all_of(state.lagWeights.begin(), state.lagWeights.end(),
                          [](double weight) { return isfinite(weight) && weight >= 0; }) &&
                   any_of(state.lagWeights.begin(), state.lagWeights.end(),
                          [](double weight) { return weight > 0; });
    if (!counts || !prefetched || !weights || !all_of(c.origin, c.origin + 3, finite))
        throw OpenMMException("Timewarp: the checkpoint is damaged: it holds impossible numbers; use an "
                              "older checkpoint");
}

template <typename Value> static void append(string& bytes, const Value* values, size_t count) {
    bytes.append(reinterpret_cast<const char*>(values), count * sizeof(Value));
}

static string take(istream& stream, size_t size) {
    string bytes(size, '\0');
    stream.read(&bytes[0], size);
    if (!stream)
        throw OpenMMException("Timewarp: the checkpoint is truncated; use an older checkpoint");
    return bytes;
}

template <typename Value>
static void extract(const string& bytes, size_t& offset, Value* values, size_t count) {
    if (count > 0)
        memcpy(static_cast<void*>(values), bytes.data() + offset, count * sizeof(Value));
    offset += count * sizeof(Value);
}

static size_t bodySize(size_t numLags, size_t numPositions) {
    size_t size = 0;
    visitCounters(ChainCounters(), [&](const char*, const auto& value) { size += sizeof(value); });
    return size + numLags * sizeof(double) + 2 * DIGEST_SIZE + numPositions * sizeof(Vec3);
}

void TimewarpPlugin::writeCheckpoint(ostream& stream, const ChainState& state,
                                     const ChainIdentity& identity) {
    string bytes = identity.modelSha256 + identity.particlesSha256 + identity.systemSha256;
    int64_t numPositions = state.prefetchPositions.size();
    append(bytes, &numPositions, 1);
    visitCounters(state.counters, [&](const char*, const auto& value) { append(bytes, &value, 1); });
    append(bytes, state.lagWeights.data(), state.lagWeights.size());
    bytes += state.positionsDigest + state.surrogateDigest;
    append(bytes, state.prefetchPositions.data(), state.prefetchPositions.size());
    stream << CHECKPOINT_MAGIC << bytes << sha256(bytes);
}

ChainState TimewarpPlugin::readCheckpoint(istream& stream, const ChainIdentity& identity) {
    if (take(stream, CHECKPOINT_MAGIC.size()) != CHECKPOINT_MAGIC)
        throw OpenMMException("Timewarp: the checkpoint was not made with a TimewarpMCMCIntegrator of this "
                              "version, or is damaged");
    string head = take(stream, 3 * DIGEST_SIZE + sizeof(int64_t));
    auto digest = [&head](int index) { return head.substr(index * DIGEST_SIZE, DIGEST_SIZE); };
    checkIdentity(digest(0), digest(1), identity);
    int64_t numPositions;
    size_t offset = 3 * DIGEST_SIZE;
    extract(head, offset, &numPositions, 1);
    if (numPositions != 0 && numPositions != static_cast<int64_t>(identity.numAtoms))
        throw OpenMMException("Timewarp: the checkpoint is damaged; use an older checkpoint");
    string body = take(stream, bodySize(identity.numLags, numPositions));
    if (take(stream, DIGEST_SIZE) != sha256(head + body))
        throw OpenMMException("Timewarp: the checkpoint is damaged; use an older checkpoint");
    ChainState state;
    offset = 0;
    visitCounters(state.counters, [&](const char*, auto& value) { extract(body, offset, &value, 1); });
    state.lagWeights.resize(identity.numLags);
    extract(body, offset, state.lagWeights.data(), identity.numLags);
    for (string* text : {&state.positionsDigest, &state.surrogateDigest}) {
        *text = body.substr(offset, DIGEST_SIZE);
        offset += DIGEST_SIZE;
    }
    state.prefetchPositions.resize(numPositions);
    extract(body, offset, state.prefetchPositions.data(), numPositions);
    checkState(state, identity);
    if (digest(2) != identity.systemSha256)
        state.discardPrefetched();
    return state;
}

static void writeValue(SerializationNode& node, const char* name, int64_t value) {
    node.setLongProperty(name, value);
}

static void writeValue(SerializationNode& node, const char* name, double value) {
    node.setDoubleProperty(name, value);
}

static void readValue(const SerializationNode& node, const char* name, int64_t& value) {
    value = node.getLongProperty(name);
}

static void readValue(const SerializationNode& node, const char* name, double& value) {
    value = node.getDoubleProperty(name);
}

void TimewarpPlugin::writeNode(SerializationNode& node, const ChainState& state,
                               const ChainIdentity& identity) {
    node.setIntProperty("version", NODE_VERSION);
    node.setStringProperty("modelSha256", identity.modelSha256);
    node.setStringProperty("particlesSha256", identity.particlesSha256);
    node.setStringProperty("systemSha256", identity.systemSha256);
    node.setStringProperty("positionsDigest", state.positionsDigest);
    node.setStringProperty("surrogateDigest", state.surrogateDigest);
    visitCounters(state.counters,
                  [&](const char* name, const auto& value) { writeValue(node, name, value); });
    SerializationNode& weights = node.createChildNode("LagWeights");
    for (double weight : state.lagWeights)
        weights.createChildNode("Lag").setDoubleProperty("weight", weight);
    SerializationNode& positions = node.createChildNode("PrefetchPositions");
    for (const Vec3& p : state.prefetchPositions)
        positions.createChildNode("Position")
                .setDoubleProperty("x", p[0])
                .setDoubleProperty("y", p[1])
                .setDoubleProperty("z", p[2]);
}

ChainState TimewarpPlugin::readNode(const SerializationNode& node, const ChainIdentity& identity) {
    int version = node.getIntProperty("version");
    if (version != NODE_VERSION)
        throw OpenMMException("Timewarp: the State was saved by another version of this plugin (format " +
                              to_string(version) + ", this one reads " + to_string(NODE_VERSION) +
                              "); save it again without integratorParameters, or set positions and "
                              "velocities from it");
    checkIdentity(node.getStringProperty("modelSha256"), node.getStringProperty("particlesSha256"), identity);
    ChainState state;
    state.positionsDigest = node.getStringProperty("positionsDigest");
    state.surrogateDigest = node.getStringProperty("surrogateDigest");
    visitCounters(state.counters, [&](const char* name, auto& value) { readValue(node, name, value); });
    for (const SerializationNode& lag : node.getChildNode("LagWeights").getChildren())
        state.lagWeights.push_back(lag.getDoubleProperty("weight"));
    for (const SerializationNode& p : node.getChildNode("PrefetchPositions").getChildren())
        state.prefetchPositions.emplace_back(p.getDoubleProperty("x"), p.getDoubleProperty("y"),
                                             p.getDoubleProperty("z"));
    checkState(state, identity);
    if (node.getStringProperty("systemSha256") != identity.systemSha256)
        state.discardPrefetched();
    return state;
}
