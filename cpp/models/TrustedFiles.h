#ifndef TIMEWARP_TRUSTED_FILES_H_
#define TIMEWARP_TRUSTED_FILES_H_

#include <string>

namespace TimewarpPlugin {

/**
 * The files whose code may use any operator of TorchScript, because somebody has vouched for them.  They are
 * known by their content, so that neither another file of the same name nor an XML can claim it, and for the
 * whole process.  There are two ways to name one: trustFile(), and the environment variable
 * TIMEWARP_TRUSTED_FILES, which child processes inherit.
 *
 * @param sha256   SHA-256 digest of the file, as 64 hexadecimal digits
 */
void trustFile(const std::string& sha256);
bool isTrustedFile(const std::string& sha256);
/**
 * Get whether there are any, so that a digest is worth computing.
 */
bool anyFileIsTrusted();
/**
 * Throw an exception if a TorchScript file is damaged, or is not trusted and does more than arithmetic.
 *
 * @param what      what to call it in messages: "the model steps.pt"
 * @param content   the bytes of the file
 */
void checkTorchFile(const std::string& what, const std::string& content);

} // namespace TimewarpPlugin

#endif /*TIMEWARP_TRUSTED_FILES_H_*/
