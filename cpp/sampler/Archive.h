#ifndef TIMEWARP_ARCHIVE_H_
#define TIMEWARP_ARCHIVE_H_

#include "internal/windowsExportTimewarp.h"
#include "openmm/Vec3.h"
#include "openmm/serialization/SerializationNode.h"
#include <cstdint>
#include <iosfwd>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace TimewarpPlugin {

/**
 * What a checkpoint or a State holds of a chain or a move: named values, and records of its parts.  Each
 * part lists its fields once, by functions that write or read them by name; how they are stored is known
 * here alone.
 */
class EXPORT_TIMEWARP Record {
public:
    using Value = std::variant<std::int64_t, double, std::string, std::vector<double>>;

    Record() = default;
    explicit Record(const std::string& kind) : kind(kind) {
    }
    /** What it is of, such as "FlowMove". */
    std::string kind;
    std::vector<std::pair<std::string, Value>> values;
    std::vector<Record> parts;

    void set(const std::string& name, std::int64_t value) {
        values.emplace_back(name, value);
    }
    void set(const std::string& name, double value) {
        values.emplace_back(name, value);
    }
    void set(const std::string& name, const std::string& value) {
        values.emplace_back(name, value);
    }
    void set(const std::string& name, const std::vector<double>& value) {
        values.emplace_back(name, value);
    }
    void set(const std::string& name, const std::vector<OpenMM::Vec3>& value);
    /**
     * Get a value.  Throws an OpenMMException if there is none of that name and type.
     */
    void get(const std::string& name, std::int64_t& value) const;
    void get(const std::string& name, double& value) const;
    void get(const std::string& name, std::string& value) const;
    void get(const std::string& name, std::vector<double>& value) const;
    void get(const std::string& name, std::vector<OpenMM::Vec3>& value) const;

private:
    template <class Type> const Type& find(const std::string& name) const;
};

/**
 * Throw an exception which says that a record cannot be right.
 */
[[noreturn]] void EXPORT_TIMEWARP refuseRecord();
/**
 * Write a record into a checkpoint, with a digest of it.
 */
void EXPORT_TIMEWARP writeCheckpoint(std::ostream& stream, const Record& record);
/**
 * Read a record from a checkpoint.  Throws an OpenMMException that says why, if it is truncated or damaged.
 */
Record EXPORT_TIMEWARP readCheckpoint(std::istream& stream);
/**
 * Write a record into a node of a State.
 */
void EXPORT_TIMEWARP writeNode(OpenMM::SerializationNode& node, const Record& record);
/**
 * Get whether a node was written by writeNode().
 */
bool EXPORT_TIMEWARP nodeHasRecord(const OpenMM::SerializationNode& node);
/**
 * Read a record from a node of a State.
 */
Record EXPORT_TIMEWARP readNode(const OpenMM::SerializationNode& node);

} // namespace TimewarpPlugin

#endif /*TIMEWARP_ARCHIVE_H_*/
