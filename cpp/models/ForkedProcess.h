#ifndef TIMEWARP_FORKEDPROCESS_H_
#define TIMEWARP_FORKEDPROCESS_H_

namespace TimewarpPlugin {

/**
 * The process that something was made in.  A forked child has a copy of it, and none of the threads and
 * devices that it counts on.
 */
class ProcessOfOrigin {
public:
    ProcessOfOrigin();
    /** Get whether this is another process, forked from that one. */
    bool isLeft() const;

private:
    int process;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_FORKEDPROCESS_H_*/
