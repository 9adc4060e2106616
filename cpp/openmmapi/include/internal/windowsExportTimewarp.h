#ifndef TIMEWARP_WINDOWS_EXPORT_H_
#define TIMEWARP_WINDOWS_EXPORT_H_

/*
 * Shared libraries export what is marked EXPORT_TIMEWARP and nothing else.
 */
#ifdef _MSC_VER
#if defined(TIMEWARP_BUILDING_SHARED_LIBRARY)
#define EXPORT_TIMEWARP __declspec(dllexport)
#else
#define EXPORT_TIMEWARP __declspec(dllimport)
#endif
#else
#define EXPORT_TIMEWARP __attribute__((visibility("default")))
#endif

#endif /*TIMEWARP_WINDOWS_EXPORT_H_*/
