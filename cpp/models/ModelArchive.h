#ifndef TIMEWARP_MODEL_ARCHIVE_H_
#define TIMEWARP_MODEL_ARCHIVE_H_

#include <map>
#include <memory>
#include <string>

namespace caffe2::serialize {
class ReadAdapterInterface;
}

namespace TimewarpPlugin {

/**
 * The members of a TorchScript file (a zip archive), by their name without the folder they all lie in.  They
 * are read by torch's own reader, which leaves the archive's checksums unchecked; here each member is
 * compared with its checksum, and sizes are bounded before memory is asked for.  A file with two members of
 * one name, which readers could take for different ones, is refused.
 */
class ModelArchive {
public:
    /**
     * Read the bytes of a file.  If they are not a whole, undamaged TorchScript file, an OpenMMException says
     * what is wrong.
     */
    explicit ModelArchive(const std::string& content);
    const std::map<std::string, std::string>& getMembers() const {
        return members;
    }
    /**
     * Write an archive of these members, uncompressed.  This is what torch is given instead of the file: from
     * a damaged or hostile compressed member, its reader can make different bytes each time.
     */
    std::string write() const;

private:
    std::map<std::string, std::string> members;
};

/**
 * Let torch read some bytes where they are.  They must outlive what reads them.
 */
std::shared_ptr<caffe2::serialize::ReadAdapterInterface> readerOf(const std::string& bytes);

} // namespace TimewarpPlugin

#endif /*TIMEWARP_MODEL_ARCHIVE_H_*/
