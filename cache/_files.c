/* What is done to the file of an object while it is filled, several system calls at a time and without the
 * interpreter's lock: taking its lease, writing, giving it its name.
 *
 * For a small file these calls take less time than handing the lock back and forth around each of them. A
 * job can be run where it is made, or given to the thread of a `Thread`, where it waits for the disk while
 * the event loop goes on. The thread touches no Python object but through buffers that the job holds. */
#define PY_SSIZE_T_CLEAN
#define _GNU_SOURCE
#include <Python.h>
#include <structmember.h>

#include <pthread.h>
#include <sys/eventfd.h>

#include "file_work.h"

/* -- jobs ------------------------------------------------------------------------------------- */

static void let_go(Job *job)
{
    for (Py_ssize_t i = 0; i < job->count; i++)
        PyBuffer_Release(&job->chunks[i]);
    PyMem_Free(job->chunks);
    job->chunks = NULL;
    job->count = 0;
}

static void job_dealloc(Job *job)
{
    close_all((int *[]){&job->lease, &job->writer, &job->found, &job->reader, &job->copy, NULL});
    let_go(job);
    free(job->runs);
    Py_XDECREF(job->token);
    Py_XDECREF(job->part);
    Py_XDECREF(job->final);
    Py_TYPE(job)->tp_free((PyObject *)job);
}

static bool give(Job *job)
{
    if (job->given)
        PyErr_SetString(PyExc_ValueError, "a job is done once");
    bool first = !job->given;
    job->given = true;
    return first;
}

static PyObject *finished(Job *job)
{
    job->finished = true;
    let_go(job);
    return Py_NewRef(job);
}

static PyObject *job_run(Job *job, PyObject *unused)
{
    (void)unused;
    if (!give(job))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    job->work(job);
    Py_END_ALLOW_THREADS
    return finished(job);
}

/* Whoever lets go of the interpreter's lock gets it back when a thread that computes is made to give it up. */
static PyObject *job_run_at_once(Job *job, PyObject *unused)
{
    (void)unused;
    if (!give(job))
        return NULL;
    job->work(job);
    return finished(job);
}

static bool is_finished(Job *job)
{
    if (!job->finished)
        PyErr_SetString(PyExc_ValueError, "the job is not finished");
    return job->finished;
}

static PyObject *job_lease(Job *job, PyObject *unused)
{
    (void)unused;
    if (!is_finished(job))
        return NULL;
    PyObject *result = Py_BuildValue("(iKLNii)", job->lease, (unsigned long long)job->inode, (long long)job->length,
                                     PyBool_FromLong(job->trusted), job->writer, job->found);
    if (result != NULL)
        job->lease = job->writer = job->found = -1;
    return result;
}

static PyObject *job_named(Job *job, PyObject *unused)
{
    (void)unused;
    if (!is_finished(job))
        return NULL;
    PyObject *result = Py_BuildValue("(ii)", job->reader, job->copy);
    if (result != NULL)
        job->reader = job->copy = -1;
    return result;
}

static PyObject *job_runs(Job *job, void *unused)
{
    (void)unused;
    if (!is_finished(job))
        return NULL;
    PyObject *runs = PyList_New((Py_ssize_t)job->run_count);
    for (size_t i = 0; runs != NULL && i < job->run_count; i++) {
        Run *run = &job->runs[i];
        PyObject *item = Py_BuildValue("(LLk)", (long long)run->start, (long long)run->stop, (unsigned long)run->crc);
        if (item == NULL)
            Py_CLEAR(runs);
        else
            PyList_SET_ITEM(runs, (Py_ssize_t)i, item);
    }
    return runs;
}

static PyMethodDef job_methods[] = {
    {"run", (PyCFunction)job_run, METH_NOARGS, "Do it here; returns the job."},
    {"run_at_once", (PyCFunction)job_run_at_once, METH_NOARGS, "Do it here, keeping the interpreter's lock."},
    {"lease", (PyCFunction)job_lease, METH_NOARGS,
     "Take what a lease is: (fd, inode, length, whether it is ours alone, fd of the writer, fd of what has the name)."},
    {"named", (PyCFunction)job_named, METH_NOARGS, "Take two descriptors of the file that got its name."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef job_getters[] = {
    {"runs", (getter)job_runs, NULL, "What was written: (start, stop, CRC-32C) of each.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef job_members[] = {
    {"token", T_OBJECT, offsetof(Job, token), READONLY, "What the caller gave."},
    {"error", T_INT, offsetof(Job, error), READONLY, "An errno, or 0."},
    {"stage", T_STRING, offsetof(Job, stage), READONLY, "What failed: lease, found, writer, write, name; or None."},
    {"closed", T_BOOL, offsetof(Job, closed), READONLY, "The writer's descriptor was closed."},
    {"changed", T_BOOL, offsetof(Job, changed), READONLY, "The file is not what was written: it got no name."},
    {NULL, 0, 0, 0, NULL},
};

static PyTypeObject JobType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "cache._files.Job",
    .tp_basicsize = sizeof(Job),
    .tp_dealloc = (destructor)job_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "System calls on the file of one object. Made by take() and store().",
    .tp_methods = job_methods,
    .tp_members = job_members,
    .tp_getset = job_getters,
};

static Job *new_job(void (*work)(Job *))
{
    Job *job = PyObject_New(Job, &JobType);
    if (job == NULL)
        return NULL;
    /* All behind the object's own head. */
    memset((char *)job + sizeof(PyObject), 0, sizeof(Job) - sizeof(PyObject));
    job->work = work;
    job->lease = job->writer = job->found = job->reader = job->copy = -1;
    return job;
}

static PyObject *make_take(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *part, *final = NULL;
    int writer;
    if (!PyArg_ParseTuple(args, "O&Op", PyUnicode_FSConverter, &part, &final, &writer))
        return NULL;
    Job *job = new_job(do_take);
    if (job == NULL) {
        Py_DECREF(part);
        return NULL;
    }
    job->part = part;
    job->want_writer = writer;
    if (final != Py_None && !PyUnicode_FSConverter(final, &job->final))
        Py_CLEAR(job);
    return (PyObject *)job;
}

static PyObject *make_store(PyObject *module, PyObject *args)
{
    (void)module;
    int into, wanted = 1;
    long long at, block, length = 0;
    unsigned long long inode = 0;
    PyObject *chunks, *part = NULL, *final = NULL;
    if (!PyArg_ParseTuple(args, "iLLO!|O&O&KLp", &into, &at, &block, &PyList_Type, &chunks, PyUnicode_FSConverter,
                          &part, PyUnicode_FSConverter, &final, &inode, &length, &wanted))
        goto refused;
    if (at < 0 || block <= 0 || (part == NULL) != (final == NULL)) {
        PyErr_SetString(PyExc_ValueError, "an offset is not negative, a block not empty, and a file has two names");
        goto refused;
    }
    Job *job = new_job(do_store);
    if (job == NULL)
        goto refused;
    job->part = part;
    job->final = final;
    job->into = into;
    job->at = at;
    job->block = block;
    job->inode = (ino_t)inode;
    job->length = (off_t)length;
    job->wanted = wanted;
    Py_ssize_t count = PyList_GET_SIZE(chunks);
    job->chunks = PyMem_Calloc((size_t)count + 1, sizeof *job->chunks);
    if (job->chunks == NULL) {
        Py_DECREF(job);
        return PyErr_NoMemory();
    }
    for (; job->count < count; job->count++)
        if (PyObject_GetBuffer(PyList_GET_ITEM(chunks, job->count), &job->chunks[job->count], PyBUF_SIMPLE) < 0) {
            Py_DECREF(job);
            return NULL;
        }
    return (PyObject *)job;
refused:
    Py_XDECREF(part);
    Py_XDECREF(final);
    return NULL;
}

static PyObject *sum_of(PyObject *module, PyObject *args)
{
    (void)module;
    Py_buffer data;
    unsigned long crc = 0;
    if (!PyArg_ParseTuple(args, "y*|k", &data, &crc))
        return NULL;
    uint32_t sum;
    Py_BEGIN_ALLOW_THREADS
    sum = crc32c((uint32_t)crc, data.buf, (size_t)data.len);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&data);
    return PyLong_FromUnsignedLong(sum);
}

/* -- the thread ------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    pthread_t thread;
    bool running;
    int ready; /* an eventfd: for whoever waits for finished jobs */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    /* all below is guarded by the lock */
    bool closing;
    bool told; /* whoever waits for finished jobs has not looked since */
    Job *fresh, **fresh_end;
    Job *done, **done_end;
} Thread;

static void *serve(void *argument)
{
    Thread *owner = argument;
    pthread_mutex_lock(&owner->lock);
    for (;;) {
        while (owner->fresh == NULL && !owner->closing)
            pthread_cond_wait(&owner->wake, &owner->lock);
        Job *job = owner->fresh;
        if (job == NULL)
            break;
        owner->fresh = job->next;
        if (owner->fresh == NULL)
            owner->fresh_end = &owner->fresh;
        pthread_mutex_unlock(&owner->lock);
        job->work(job);
        job->next = NULL;
        pthread_mutex_lock(&owner->lock);
        *owner->done_end = job;
        owner->done_end = &job->next;
        if (job->token != Py_None && !owner->told) {
            owner->told = true;
            uint64_t one = 1;
            while (write(owner->ready, &one, sizeof one) < 0 && errno == EINTR) {
            }
        }
    }
    pthread_mutex_unlock(&owner->lock);
    return NULL;
}

static PyObject *thread_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {NULL};
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "", names))
        return NULL;
    Thread *owner = (Thread *)type->tp_alloc(type, 0);
    if (owner == NULL)
        return NULL;
    owner->fresh_end = &owner->fresh;
    owner->done_end = &owner->done;
    pthread_mutex_init(&owner->lock, NULL);
    pthread_cond_init(&owner->wake, NULL);
    owner->ready = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int failed = owner->ready < 0 ? errno : pthread_create(&owner->thread, NULL, serve, owner);
    if (failed) {
        errno = failed;
        PyErr_SetFromErrno(PyExc_OSError);
        Py_DECREF(owner);
        return NULL;
    }
    owner->running = true;
    return (PyObject *)owner;
}

static PyObject *thread_close(Thread *owner, PyObject *unused)
{
    (void)unused;
    if (owner->running) {
        pthread_mutex_lock(&owner->lock);
        owner->closing = true;
        pthread_cond_signal(&owner->wake);
        pthread_mutex_unlock(&owner->lock);
        Py_BEGIN_ALLOW_THREADS
        pthread_join(owner->thread, NULL);
        Py_END_ALLOW_THREADS
        owner->running = false;
    }
    Py_RETURN_NONE;
}

static PyObject *thread_done(Thread *owner, PyObject *unused)
{
    (void)unused;
    uint64_t count;
    while (read(owner->ready, &count, sizeof count) < 0 && errno == EINTR) {
    }
    pthread_mutex_lock(&owner->lock);
    Job *done = owner->done;
    owner->told = false;
    owner->done = NULL;
    owner->done_end = &owner->done;
    pthread_mutex_unlock(&owner->lock);
    PyObject *jobs = PyList_New(0);
    while (done != NULL) {
        Job *job = done;
        done = job->next;
        job->finished = true;
        let_go(job);
        if (jobs != NULL && PyList_Append(jobs, (PyObject *)job) < 0)
            Py_CLEAR(jobs);
        Py_DECREF(job); /* the thread's */
    }
    return jobs;
}

static void thread_dealloc(Thread *owner)
{
    PyObject *type, *value, *trace; /* of an exception that is under way, and lets go of us */
    PyErr_Fetch(&type, &value, &trace);
    Py_XDECREF(thread_close(owner, NULL));
    if (owner->ready >= 0) {
        Py_XDECREF(thread_done(owner, NULL));
        close(owner->ready);
    }
    PyErr_Restore(type, value, trace);
    pthread_cond_destroy(&owner->wake);
    pthread_mutex_destroy(&owner->lock);
    Py_TYPE(owner)->tp_free((PyObject *)owner);
}

static PyObject *thread_submit(Thread *owner, PyObject *args)
{
    PyObject *jobs, *token;
    if (!PyArg_ParseTuple(args, "O!O", &PyList_Type, &jobs, &token))
        return NULL;
    if (!owner->running) {
        PyErr_SetString(PyExc_ValueError, "it is closed");
        return NULL;
    }
    Job *first = NULL, **end = &first;
    Py_ssize_t count = PyList_GET_SIZE(jobs), given = 0;
    for (; given < count; given++) {
        Job *job = (Job *)PyList_GET_ITEM(jobs, given);
        if (!Py_IS_TYPE(job, &JobType)) {
            PyErr_SetString(PyExc_TypeError, "only jobs can be done");
            break;
        }
        if (!give(job))
            break;
        job->token = Py_NewRef(given == count - 1 ? token : Py_None);
        Py_INCREF(job); /* the thread's */
        *end = job;
        end = &job->next;
    }
    /* Those before one that is refused were promised to be done, so they are. */
    pthread_mutex_lock(&owner->lock);
    bool waits = owner->fresh == NULL;
    *owner->fresh_end = first;
    if (first != NULL)
        owner->fresh_end = end;
    pthread_mutex_unlock(&owner->lock);
    if (waits && first != NULL)
        pthread_cond_signal(&owner->wake);
    if (given < count)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *thread_fileno(Thread *owner, PyObject *unused)
{
    (void)unused;
    return PyLong_FromLong(owner->ready);
}

static PyMethodDef thread_methods[] = {
    {"submit", (PyCFunction)thread_submit, METH_VARARGS, "Have jobs done: (jobs, token of the last)."},
    {"done", (PyCFunction)thread_done, METH_NOARGS, "Return the jobs that are finished."},
    {"fileno", (PyCFunction)thread_fileno, METH_NOARGS, "A descriptor that is readable while there are any."},
    {"close", (PyCFunction)thread_close, METH_NOARGS, "Do what is left, then end the thread."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject ThreadType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "cache._files.Thread",
    .tp_basicsize = sizeof(Thread),
    .tp_dealloc = (destructor)thread_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "A thread that does jobs one after the other.",
    .tp_methods = thread_methods,
    .tp_new = thread_new,
};

static PyMethodDef functions[] = {
    {"take", make_take, METH_VARARGS, "A job that takes a lease: (part, final or None, whether to open a writer)."},
    {"store", make_store, METH_VARARGS,
     "A job that writes, and then gives the file its name if it has two: (fd, offset, block, chunks[, part, final, "
     "inode, size[, wanted]])."},
    {"crc32c", sum_of, METH_VARARGS, "CRC-32C of data, or of what a sum was taken of with data behind it."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "cache._files",
    .m_doc = "System calls on the files of objects, without the interpreter's lock.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__files(void)
{
    crc32c_prepare();
    if (PyType_Ready(&JobType) < 0 || PyType_Ready(&ThreadType) < 0)
        return NULL;
    PyObject *made = PyModule_Create(&module);
    if (made == NULL || PyModule_AddObjectRef(made, "Job", (PyObject *)&JobType) < 0
        || PyModule_AddObjectRef(made, "Thread", (PyObject *)&ThreadType) < 0) {
        Py_XDECREF(made);
        return NULL;
    }
    return made;
}
