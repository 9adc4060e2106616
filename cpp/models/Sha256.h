#ifndef TIMEWARP_SHA256_H_
#define TIMEWARP_SHA256_H_

#include "internal/windowsExportTimewarp.h"
#include <cstddef>
#include <string>

namespace TimewarpPlugin {

/**
 * Compute the SHA-256 digest of some bytes (FIPS 180-4), as 64 hexadecimal digits.
 */
EXPORT_TIMEWARP std::string sha256(const void* data, std::size_t size);

inline std::string sha256(const std::string& bytes) {
    return sha256(bytes.data(), bytes.size());
}

} // namespace TimewarpPlugin

#endif /*TIMEWARP_SHA256_H_*/
