/* What is done to many complete objects, one system call for each, without the interpreter's lock.
 *
 * One call takes some microseconds. Done from Python each would let go of the lock and wait for it again, behind
 * an event loop that is busy with the next files: that took longer than the calls. */
#define PY_SSIZE_T_CLEAN
#define _GNU_SOURCE
#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/* Descriptors that Python gave; false: with an exception. What it gets is to be freed in any case. */
static bool take_numbers(PyObject *numbers, int **fds, Py_ssize_t *count)
{
    *fds = NULL;
    PyObject *list = PySequence_Fast(numbers, "descriptors are a sequence");
    if (list == NULL)
        return false;
    *count = PySequence_Fast_GET_SIZE(list);
    *fds = PyMem_Calloc((size_t)*count + 1, sizeof **fds);
    bool good = *fds != NULL;
    if (!good)
        PyErr_NoMemory();
    for (Py_ssize_t i = 0; good && i < *count; i++) {
        (*fds)[i] = (int)PyLong_AsLong(PySequence_Fast_GET_ITEM(list, i));
        good = (*fds)[i] != -1 || !PyErr_Occurred();
    }
    Py_DECREF(list);
    return good;
}

static PyObject *begin_writing(PyObject *module, PyObject *numbers)
{
    (void)module;
    int *fds;
    Py_ssize_t count;
    bool good = take_numbers(numbers, &fds, &count);
    if (good) {
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t i = 0; i < count; i++)
            sync_file_range(fds[i], 0, 0, SYNC_FILE_RANGE_WRITE);
        Py_END_ALLOW_THREADS
    }
    PyMem_Free(fds);
    return good ? Py_NewRef(Py_None) : NULL;
}

/* -- what an object says of itself ------------------------------------------------------------ */

typedef struct {
    int fd, error;
    const char *value; /* NULL: it says nothing */
    size_t size;
    unsigned long long names, occupied;
} Mark;

static void set_mark(const char *attribute, Mark *mark)
{
    struct stat status;
    if (fstat(mark->fd, &status) < 0) {
        mark->error = errno;
        return;
    }
    mark->names = status.st_nlink;
    if (mark->names > 0 && mark->value != NULL && fsetxattr(mark->fd, attribute, mark->value, mark->size, 0) < 0)
        mark->error = errno;
    else if (mark->value != NULL && fstat(mark->fd, &status) < 0)
        mark->error = errno;
    mark->occupied = (unsigned long long)status.st_blocks * 512;
}

static bool take_mark(PyObject *item, Mark *mark)
{
    PyObject *value;
    if (!PyArg_ParseTuple(item, "iO;a mark is a descriptor and bytes or None", &mark->fd, &value))
        return false;
    if (value == Py_None)
        return true;
    if (!PyBytes_Check(value)) {
        PyErr_SetString(PyExc_TypeError, "an attribute is bytes, or None");
        return false;
    }
    mark->value = PyBytes_AS_STRING(value);
    mark->size = (size_t)PyBytes_GET_SIZE(value);
    return true;
}

static PyObject *results(const Mark *marks, Py_ssize_t count)
{
    PyObject *list = PyList_New(count);
    for (Py_ssize_t i = 0; list != NULL && i < count; i++) {
        PyObject *item = Py_BuildValue("(iKK)", marks[i].error, marks[i].names, marks[i].occupied);
        if (item == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, i, item);
    }
    return list;
}

static PyObject *mark_all(PyObject *module, PyObject *args)
{
    (void)module;
    const char *attribute;
    PyObject *given;
    if (!PyArg_ParseTuple(args, "sO!", &attribute, &PyList_Type, &given))
        return NULL;
    /* A copy, which nobody else can change: it keeps the bytes. */
    PyObject *list = PyList_GetSlice(given, 0, PyList_GET_SIZE(given)), *result = NULL;
    if (list == NULL)
        return NULL;
    Py_ssize_t count = PyList_GET_SIZE(list), taken = 0;
    Mark *marks = PyMem_Calloc((size_t)count + 1, sizeof *marks);
    if (marks == NULL)
        PyErr_NoMemory();
    for (; marks != NULL && taken < count; taken++) {
        PyObject *item = PyList_GET_ITEM(list, taken);
        if (!PyTuple_Check(item)) {
            PyErr_SetString(PyExc_TypeError, "a mark is a descriptor and bytes or None");
            break;
        }
        if (!take_mark(item, &marks[taken]))
            break;
    }
    if (marks != NULL && taken == count) {
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t i = 0; i < count; i++)
            set_mark(attribute, &marks[i]);
        Py_END_ALLOW_THREADS
        result = results(marks, count);
    }
    PyMem_Free(marks);
    Py_DECREF(list);
    return result;
}

/* -- the end of leases ------------------------------------------------------------------------ */

static PyObject *end_leases(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *first, *second;
    if (!PyArg_ParseTuple(args, "OO", &first, &second))
        return NULL;
    int *leases, *copies = NULL;
    Py_ssize_t lease_count, copy_count = 0;
    bool good = take_numbers(first, &leases, &lease_count) && take_numbers(second, &copies, &copy_count);
    if (good) {
        Py_BEGIN_ALLOW_THREADS
        /* A lease gives way to readers, and is not closed before they have the lock: in between whoever removes
         * objects could take it. */
        for (Py_ssize_t i = 0; i < lease_count; i++)
            flock(leases[i], LOCK_SH | LOCK_NB);
        for (Py_ssize_t i = 0; i < copy_count; i++) {
            flock(copies[i], LOCK_SH | LOCK_NB);
            close(copies[i]);
        }
        for (Py_ssize_t i = 0; i < lease_count; i++)
            close(leases[i]);
        Py_END_ALLOW_THREADS
    }
    PyMem_Free(leases);
    PyMem_Free(copies);
    return good ? Py_NewRef(Py_None) : NULL;
}

static PyMethodDef functions[] = {
    {"begin_writing", begin_writing, METH_O,
     "Have the disk begin with what was written to files, by their descriptors; nothing is promised."},
    {"mark", mark_all, METH_VARARGS,
     "Set an attribute of files that have a name: (attribute, [(fd, value or None)...]). Returns of each (errno or 0, "
     "how many names it has, bytes of disk that it takes)."},
    {"end_leases", end_leases, METH_VARARGS,
     "Turn the locks of leases into those of readers, which copies of descriptors get as well, and close all: (leases, "
     "copies)."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "cache._sealing",
    .m_doc = "System calls on many complete objects, without the interpreter's lock.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__sealing(void)
{
    return PyModule_Create(&module);
}
