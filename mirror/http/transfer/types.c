#include "types.h"

#include <errno.h>

typedef struct {
    PyObject_HEAD
    SSL_CTX *context;
} Context;

static PyObject *context_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"authorities", "certificate", "key", "password", "flags", NULL};
    struct tls_files files = {0};
    unsigned long flags = 0;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "s|zzzk", names, &files.authorities, &files.certificate,
                                     &files.key, &files.password, &flags))
        return NULL;
    Context *self = (Context *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    char reason[TLS_REASON];
    Py_BEGIN_ALLOW_THREADS
    self->context = tls_context(&files, flags, reason);
    Py_END_ALLOW_THREADS
    if (self->context == NULL) {
        PyObject *error = PyObject_CallFunction(PyExc_OSError, "is", EINVAL, reason);
        if (error != NULL)
            PyErr_SetObject(PyExc_OSError, error);
        Py_XDECREF(error);
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void context_dealloc(Context *self)
{
    SSL_CTX_free(self->context);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyTypeObject ContextType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "mirror.http._wire.Context",
    .tp_basicsize = sizeof(Context),
    .tp_dealloc = (destructor)context_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "Settings of TLS: whom to trust, and what to show.",
    .tp_new = context_new,
};

static PyObject *connection_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"context", "host", NULL};
    PyObject *context;
    const char *host;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O!s", names, &ContextType, &context, &host))
        return NULL;
    Tls *self = (Tls *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->tls = tls_new(((Context *)context)->context, host);
    if (self->tls == NULL) {
        PyErr_SetString(PyExc_ValueError, "this is no name that a certificate could have");
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void connection_dealloc(Tls *self)
{
    if (self->tls != NULL)
        tls_free(self->tls);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *connection_quiet(Tls *self, void *unused)
{
    (void)unused;
    return PyBool_FromLong(!self->busy && !tls_holds(self->tls));
}

static PyObject *connection_untrusted(Tls *self, void *unused)
{
    (void)unused;
    return PyBool_FromLong(!self->busy && self->tls->untrusted);
}

static PyObject *connection_reason(Tls *self, void *unused)
{
    (void)unused;
    return PyUnicode_DecodeUTF8(self->busy ? "" : self->tls->reason,
                                self->busy ? 0 : (Py_ssize_t)strlen(self->tls->reason), "replace");
}

static PyObject *connection_agreed(Tls *self, void *unused)
{
    (void)unused;
    if (self->busy || !SSL_is_init_finished(self->tls->ssl))
        return Py_NewRef(Py_None);
    return Py_BuildValue("ss", SSL_get_version(self->tls->ssl), SSL_get_cipher_name(self->tls->ssl));
}

static PyGetSetDef connection_getters[] = {
    {"quiet", (getter)connection_quiet, NULL, "Nothing is left of what came, and it is not over.", NULL},
    {"untrusted", (getter)connection_untrusted, NULL, "The server's certificate is not trusted.", NULL},
    {"reason", (getter)connection_reason, NULL, "Why it failed with EPROTO.", NULL},
    {"agreed", (getter)connection_agreed, NULL, "The version and the cipher, once there are keys.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject TlsType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "mirror.http._wire.Tls",
    .tp_basicsize = sizeof(Tls),
    .tp_dealloc = (destructor)connection_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "The client's end of one TLS connection.",
    .tp_getset = connection_getters,
    .tp_new = connection_new,
};

bool add_tls_types(PyObject *module)
{
    return PyType_Ready(&ContextType) == 0 && PyType_Ready(&TlsType) == 0
           && PyModule_AddObjectRef(module, "Context", (PyObject *)&ContextType) == 0
           && PyModule_AddObjectRef(module, "Tls", (PyObject *)&TlsType) == 0;
}
