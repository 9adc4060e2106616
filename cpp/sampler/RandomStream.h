#ifndef TIMEWARP_RANDOM_STREAM_H_
#define TIMEWARP_RANDOM_STREAM_H_

#include <cstdint>
#include <map>
#include <string>

namespace TimewarpPlugin {

/**
 * Number the random numbers of one thermodynamic state (FNV-1a).  A seed combined with it gives every
 * temperature and every set of parameters noise of its own.
 *
 * @param temperature   the temperature (in Kelvin)
 * @param forceGroups   the force groups that make up the energy
 * @param parameters    the Context's parameters
 */
inline std::uint64_t randomStream(double temperature, int forceGroups,
                                  const std::map<std::string, double>& parameters) {
    std::uint64_t hash = 14695981039346656037u;
    auto add = [&hash](const void* data, std::size_t size) {
        for (std::size_t i = 0; i < size; i++)
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

} // namespace TimewarpPlugin

#endif /*TIMEWARP_RANDOM_STREAM_H_*/
