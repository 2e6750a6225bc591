/* Python's hold on the channel (channel/channel.h): make it, hand it workers, ask how it is, end it.
 *
 * Everything that is hot runs in the channel's own threads without the interpreter; nothing here is
 * called more than a few times a second. Descriptors that are handed over belong to the channel from
 * the moment the call succeeds. Errors are OSError with the errno of what failed.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <stddef.h>
#include <sys/ioctl.h>

#include "channel/channel.h"
#include "channel/protocol.h"

typedef struct {
    PyObject_HEAD
    struct channel *channel; /* NULL until __init__ succeeded and after close() */
} ChannelObject;

static PyObject *raise_errno(int error)
{
    errno = error;
    return PyErr_SetFromErrno(PyExc_OSError);
}

static int kernel_open(void *context, int fd)
{
    const struct channel *channel = context;
    struct backing_map map = {.fd = fd};
    int id = ioctl(channel->fuse_fd, BACKING_OPEN, &map);
    return id < 0 ? -errno : id;
}

static int kernel_close(void *context, int32_t id)
{
    const struct channel *channel = context;
    uint32_t number = (uint32_t)id;
    return ioctl(channel->fuse_fd, BACKING_CLOSE, &number) < 0 ? -errno : 0;
}

static void dispose(ChannelObject *self)
{
    struct channel *channel = self->channel;
    self->channel = NULL;
    if (channel == NULL)
        return;
    Py_BEGIN_ALLOW_THREADS
    channel_stop(channel);
    channel_destroy(channel);
    free(channel);
    Py_END_ALLOW_THREADS
}

static int channel_object_init(ChannelObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"fuse_fd", "passthrough", "max_stack_depth", "max_pages", "backing_limit",
                            "spin_us", "cache_device", "owner", NULL};
    int fuse_fd, passthrough;
    unsigned int max_stack_depth, max_pages, backing_limit, spin_us, owner;
    unsigned long long cache_device;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "i$pIIIIKI", names, &fuse_fd, &passthrough,
                                     &max_stack_depth, &max_pages, &backing_limit, &spin_us,
                                     &cache_device, &owner))
        return -1;
    if (self->channel != NULL || max_pages == 0 || max_pages > 256) {
        PyErr_SetString(PyExc_ValueError, "max_pages must be 1 to 256, and a channel is made once");
        return -1;
    }
    struct channel *channel = malloc(sizeof *channel);
    if (channel == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    struct channel_settings settings = {
        .backing = {kernel_open, kernel_close, channel},
        .wishes = {passthrough != 0, max_stack_depth, (uint16_t)max_pages},
        .backing_limit = backing_limit,
        .spin_us = spin_us,
        .cache_device = (dev_t)cache_device,
        .owner = (uid_t)owner,
    };
    int error = channel_init(channel, fuse_fd, &settings);
    if (error != 0) {
        free(channel);
        raise_errno(error);
        return -1;
    }
    self->channel = channel;
    return 0;
}

static void channel_object_dealloc(ChannelObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    dispose(self);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static struct channel *live(ChannelObject *self)
{
    if (self->channel == NULL)
        PyErr_SetString(PyExc_ValueError, "the channel is closed");
    return self->channel;
}

static PyObject *channel_object_start(ChannelObject *self, PyObject *Py_UNUSED(ignored))
{
    struct channel *channel = live(self);
    if (channel == NULL)
        return NULL;
    int error = channel_start(channel);
    if (error != 0)
        return raise_errno(error);
    Py_RETURN_NONE;
}

static PyObject *channel_object_attach(ChannelObject *self, PyObject *args)
{
    int worker_fd, control_fd;
    const char *token;
    Py_ssize_t token_size;
    struct channel *channel = live(self);
    if (channel == NULL || !PyArg_ParseTuple(args, "iiy#", &worker_fd, &control_fd, &token, &token_size))
        return NULL;
    if (token_size != TOKEN_SIZE) {
        PyErr_Format(PyExc_ValueError, "a token has %d bytes", TOKEN_SIZE);
        return NULL;
    }
    int error = channel_attach(channel, worker_fd, control_fd, (const unsigned char *)token);
    if (error != 0)
        return raise_errno(error);
    Py_RETURN_NONE;
}

static PyObject *channel_object_probe(ChannelObject *self, PyObject *args)
{
    int fd;
    struct channel *channel = live(self);
    if (channel == NULL || !PyArg_ParseTuple(args, "i", &fd))
        return NULL;
    int error = control_check(&channel->control, fd);
    if (error != 0)
        return raise_errno(error);
    int id = kernel_open(channel, fd);
    if (id < 0) {
        nodes_enable(&channel->nodes, false);
        return raise_errno(-id);
    }
    kernel_close(channel, id);
    Py_RETURN_NONE;
}

static PyObject *channel_object_acknowledge(ChannelObject *self, PyObject *Py_UNUSED(ignored))
{
    struct channel *channel = live(self);
    if (channel == NULL)
        return NULL;
    quiet(channel->event_fd);
    Py_RETURN_NONE;
}

static PyObject *channel_object_fileno(ChannelObject *self, PyObject *Py_UNUSED(ignored))
{
    struct channel *channel = live(self);
    return channel == NULL ? NULL : PyLong_FromLong(channel->event_fd);
}

static PyObject *channel_object_close(ChannelObject *self, PyObject *Py_UNUSED(ignored))
{
    dispose(self);
    Py_RETURN_NONE;
}

/* Add one number to a dictionary; 0 or -1. */
static int put(PyObject *dictionary, const char *name, unsigned long long number)
{
    PyObject *value = PyLong_FromUnsignedLongLong(number);
    if (value == NULL)
        return -1;
    int result = PyDict_SetItemString(dictionary, name, value);
    Py_DECREF(value);
    return result;
}

static PyObject *counters_of(struct channel *channel, const struct node_counters *nodes)
{
    const struct {
        const char *name;
        unsigned long long number;
    } rows[] = {
        {"requests", atomic_load(&channel->counters.requests)},
        {"read_requests", atomic_load(&channel->counters.read_requests)},
        {"requests_forwarded", atomic_load(&channel->counters.forwarded)},
        {"reads_by_reference", atomic_load(&channel->reads.by_reference)},
        {"reads_from_disk", atomic_load(&channel->reads.from_disk)},
        {"reads_failed", atomic_load(&channel->reads.failed)},
        {"requests_in_flight", flight_count(&channel->flight)},
        {"replies", atomic_load(&channel->counters.replies)},
        {"replies_stale", atomic_load(&channel->counters.stale_replies)},
        {"bad_messages", atomic_load(&channel->counters.bad_messages)},
        {"interrupted", atomic_load(&channel->counters.interrupted)},
        {"takeovers", atomic_load(&channel->counters.takeovers)},
        {"notifications", atomic_load(&channel->slow.sent)},
        {"opens_passthrough", nodes->opens_by_keeper + nodes->opens_by_reply},
        {"opens_by_keeper", nodes->opens_by_keeper},
        {"opens_cached", nodes->opens_cached},
        {"registrations", nodes->registered},
        {"registrations_failed", nodes->failed},
        {"registrations_refused", atomic_load(&channel->control.refused)},
        {"registrations_over_budget", nodes->over_budget},
        {"retired", nodes->retired},
        {"retired_for_budget", nodes->budget_retired},
        {"yielded", nodes->yielded},
        {"yields_busy", atomic_load(&channel->control.busy)},
        {"yields_unanswered", atomic_load(&channel->control.unanswered)},
        {"opens_dropped", nodes->opens_dropped},
        {"lookups_by_keeper", names_answered(&channel->names)},
    };
    PyObject *dictionary = PyDict_New();
    for (size_t i = 0; dictionary != NULL && i < sizeof rows / sizeof rows[0]; i++)
        if (put(dictionary, rows[i].name, rows[i].number) < 0)
            Py_CLEAR(dictionary);
    return dictionary;
}

static PyObject *files_of(const struct node *nodes, size_t count)
{
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list != NULL && i < count; i++) {
        PyObject *file = Py_BuildValue(
            "{s:K,s:i,s:i,s:I,s:I,s:O,s:K}", "node", (unsigned long long)nodes[i].id, "fd", nodes[i].fd,
            "backing_id", (int)nodes[i].backing_id, "open_handles", (unsigned int)nodes[i].passthrough,
            "cached_handles", (unsigned int)nodes[i].cached, "retiring",
            nodes[i].retiring ? Py_True : Py_False, "opened_at", (unsigned long long)nodes[i].opened_at);
        if (file == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, file);
    }
    return list;
}

static PyObject *channel_object_snapshot(ChannelObject *self, PyObject *Py_UNUSED(ignored))
{
    struct channel *channel = live(self);
    if (channel == NULL)
        return NULL;
    size_t count;
    struct node_counters node_counters;
    struct node *nodes = nodes_snapshot(&channel->nodes, &count, &node_counters);
    if (nodes == NULL)
        return PyErr_NoMemory();
    PyObject *counters = counters_of(channel, &node_counters);
    PyObject *files = counters == NULL ? NULL : files_of(nodes, count);
    free(nodes);
    if (files == NULL) {
        Py_XDECREF(counters);
        return NULL;
    }
    return Py_BuildValue("{s:N,s:N}", "counters", counters, "files", files);
}

static PyObject *channel_object_take_opens(ChannelObject *self, PyObject *Py_UNUSED(ignored))
{
    struct channel *channel = live(self);
    if (channel == NULL)
        return NULL;
    /* The array is ours until the next call, and the interpreter's lock keeps that one away. */
    const struct opened *opened;
    size_t count = nodes_take_opens(&channel->nodes, &opened);
    return PyBytes_FromStringAndSize((const char *)opened, (Py_ssize_t)(count * sizeof *opened));
}

enum attribute { BACKING_LIMIT, INITIALISED, ENDED, PASSTHROUGH, RESEND, WORKER_LOST, SERVED, FAILURE, LAST_ERROR };

static PyObject *channel_object_get(ChannelObject *self, void *closure)
{
    struct channel *channel = live(self);
    if (channel == NULL)
        return NULL;
    switch ((enum attribute)(uintptr_t)closure) {
    case BACKING_LIMIT:
        return PyLong_FromUnsignedLong(channel->settings.backing_limit);
    case INITIALISED:
        return PyBool_FromLong(atomic_load(&channel->initialised));
    case ENDED:
        return PyBool_FromLong(atomic_load(&channel->ended));
    case PASSTHROUGH:
        return PyBool_FromLong(atomic_load(&channel->passthrough));
    case RESEND:
        return PyBool_FromLong(atomic_load(&channel->resend));
    case WORKER_LOST:
        return PyBool_FromLong(atomic_load(&channel->worker_state) == WORKER_ABSENT);
    case SERVED:
        return PyLong_FromUnsignedLongLong(atomic_load(&channel->served));
    case FAILURE:
        return PyLong_FromLong(atomic_load(&channel->failure));
    case LAST_ERROR:
        return PyLong_FromLong(nodes_last_error(&channel->nodes));
    }
    Py_UNREACHABLE();
}

static PyGetSetDef channel_attributes[] = {
    {"backing_limit", (getter)channel_object_get, NULL, "As it was made.", (void *)BACKING_LIMIT},
    {"initialised", (getter)channel_object_get, NULL, "INIT is answered.", (void *)INITIALISED},
    {"ended", (getter)channel_object_get, NULL, "The kernel's side is gone.", (void *)ENDED},
    {"passthrough", (getter)channel_object_get, NULL, "The kernel agreed to it.", (void *)PASSTHROUGH},
    {"resend", (getter)channel_object_get, NULL, "The kernel can resend.", (void *)RESEND},
    {"worker_lost", (getter)channel_object_get, NULL, "No worker is attached.", (void *)WORKER_LOST},
    {"served", (getter)channel_object_get, NULL, "Replies of the present worker.", (void *)SERVED},
    {"failure", (getter)channel_object_get, NULL, "errno that broke the channel, or 0.", (void *)FAILURE},
    {"last_error", (getter)channel_object_get, NULL, "errno of the last failed registration, or 0.",
     (void *)LAST_ERROR},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef channel_methods[] = {
    {"start", (PyCFunction)channel_object_start, METH_NOARGS, "Start the threads."},
    {"attach", (PyCFunction)channel_object_attach, METH_VARARGS, "Hand over a worker's sockets and its token."},
    {"probe", (PyCFunction)channel_object_probe, METH_VARARGS, "Register a descriptor and let it go."},
    {"acknowledge", (PyCFunction)channel_object_acknowledge, METH_NOARGS, "Make fileno() unreadable."},
    {"fileno", (PyCFunction)channel_object_fileno, METH_NOARGS, "Readable when an attribute changed."},
    {"snapshot", (PyCFunction)channel_object_snapshot, METH_NOARGS, "Counters and held files."},
    {"take_opens", (PyCFunction)channel_object_take_opens, METH_NOARGS, "Opens that no worker saw."},
    {"close", (PyCFunction)channel_object_close, METH_NOARGS, "End the threads, close everything."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot channel_slots[] = {
    {Py_tp_doc, "The relay between /dev/fuse and a worker."},
    {Py_tp_init, channel_object_init},
    {Py_tp_dealloc, channel_object_dealloc},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_methods, channel_methods},
    {Py_tp_getset, channel_attributes},
    {0, NULL},
};

static PyType_Spec channel_spec = {
    .name = "mirror.keeper._channel.Channel",
    .basicsize = sizeof(ChannelObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = channel_slots,
};

static int module_exec(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &channel_spec, NULL);
    if (type == NULL)
        return -1;
    int result = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return result;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_channel",
    .m_doc = "The relay between /dev/fuse and a worker, in threads of its own.",
    .m_size = 0,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__channel(void)
{
    return PyModuleDef_Init(&module_definition);
}
