#include "RandomKey.h"
#include <ATen/core/PhiloxRNGEngine.h>

using namespace TimewarpPlugin;
using namespace std;

// The stream that keys of replicas are drawn from; no chain has it.
static const uint64_t KEY_STREAM = 0xFFFFFFFF;

RandomKey::RandomKey(const RandomKeyParts& parts)
        : key(static_cast<uint64_t>(parts.seed) ^ parts.state),
          stream((static_cast<uint32_t>(parts.move) << 16) | parts.chain) {
    if (parts.replica == 0)
        return;

    // There can be any number of replicas, so each has a key that the generator itself draws.

    at::Philox4_32 keys(key, parts.replica, KEY_STREAM << 32);
    uint64_t low = keys(), high = keys();
    key = (high << 32) | low;
}

uint64_t TimewarpPlugin::thermodynamicState(double temperature, int forceGroups,
                                            const map<string, double>& parameters) {
    uint64_t hash = 14695981039346656037u;
    auto add = [&hash](const void* data, size_t size) {
        for (size_t i = 0; i < size; i++)
            hash = (hash ^ static_cast<const unsigned char*>(data)[i]) * 1099511628211u;
    };
    add(&temperature, sizeof(temperature));
    add(&forceGroups, sizeof(forceGroups));
    for (auto& parameter : parameters) {
        add(parameter.first.data(), parameter.first.size());
        add(&parameter.second, sizeof(parameter.second));
    }
    return hash;
}
