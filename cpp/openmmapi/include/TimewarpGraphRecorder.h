#ifndef TIMEWARP_GRAPH_RECORDER_H_
#define TIMEWARP_GRAPH_RECORDER_H_

#include "internal/windowsExportTimewarp.h"
#include <functional>
#include <memory>

namespace TimewarpPlugin {

/**
 * Work of a device that has been recorded.
 */
class EXPORT_TIMEWARP TimewarpGraph {
public:
    virtual ~TimewarpGraph() = default;
    /**
     * Do the work again: the same computations on the same memory, with the values it holds now.  They are
     * queued where the device's other work is, in the thread that calls this.
     */
    virtual void replay() = 0;
};

/**
 * Records work of the device that a model runs on, so that it can be done again without the host having to
 * give each instruction anew.
 */
class EXPORT_TIMEWARP TimewarpGraphRecorder {
public:
    virtual ~TimewarpGraphRecorder() = default;
    /**
     * Record some work.  Throws an exception if it cannot be recorded, for instance because it waits for the
     * device.
     *
     * @param work   the work.  It is called several times, since libraries set themselves up at their first
     *               use, and the last of the calls is recorded.
     */
    virtual std::unique_ptr<TimewarpGraph> record(const std::function<void()>& work) = 0;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_GRAPH_RECORDER_H_*/
