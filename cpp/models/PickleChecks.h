#ifndef TIMEWARP_PICKLE_CHECKS_H_
#define TIMEWARP_PICKLE_CHECKS_H_

#include <map>
#include <string>

namespace TimewarpPlugin {

/**
 * Throw an exception unless a pickle of a TorchScript file holds data only, as torch.jit.save writes them:
 * numbers, texts, lists, dictionaries, objects of the file's own classes, and tensors that lie within the
 * members of the archive.  Torch itself checks neither which class it makes an object of, which can run code,
 * nor whether a tensor ends where its member does.
 *
 * @param pickle    the bytes
 * @param tensors   the folder of the members that its tensors lie in: "data/"
 * @param members   the members of the archive
 */
void checkPickle(const std::string& pickle, const std::string& tensors,
                 const std::map<std::string, std::string>& members);

} // namespace TimewarpPlugin

#endif /*TIMEWARP_PICKLE_CHECKS_H_*/
