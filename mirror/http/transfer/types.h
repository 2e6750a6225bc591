/* What Python has of TLS, and what a job takes of it. */
#ifndef MIRROR_TLS_TYPES_H
#define MIRROR_TLS_TYPES_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "tls.h"

typedef struct {
    PyObject_HEAD
    struct tls *tls;
    bool busy; /* a job has it: nobody else looks at it */
} Tls;

extern PyTypeObject TlsType;

/* Add the types to the module; false: with an exception. */
bool add_tls_types(PyObject *module);

#endif
