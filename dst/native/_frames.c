/*
 * The compiled equal of dst/native/plain_frames.py: headers of frames, to bytes and back, and their checksums.
 *
 * The layout of a header is told in docs/specifications/wire.rst. Everything here works on memory that is there
 * already, so nothing blocks and the interpreter is never given up. What arrives comes from strangers: each length is
 * compared with what there is before it is used.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>
#include <structmember.h>

#include "crc32c.h"

#define HEADER_BYTES 64
#define CHECKED_BYTES 60
#define EPOCH_BYTES 16
#define ANSWER 0x80

static const unsigned char MAGIC[4] = {'D', 'S', 'T', 1};

/* -- checksums -- */

typedef uint32_t (*crc_function)(uint32_t crc, const unsigned char *data, size_t length);

static uint32_t crc_left_out(uint32_t crc, const unsigned char *data, size_t length)
{
    (void)crc, (void)data, (void)length;
    return 0xFFFFFFFFu;
}

/* How checksums are made in this process: set when the module is loaded, and by use_checksum. */
static crc_function crc_way = crc_by_table;

static inline uint32_t crc32c_of(const unsigned char *data, size_t length)
{
    return ~crc_way(0xFFFFFFFFu, data, length);
}

/* NULL for a way that this processor does not know. */
static crc_function way_called(const char *name)
{
    if (strcmp(name, "table") == 0)
        return crc_by_table;
    if (strcmp(name, "none") == 0)
        return crc_left_out;
#if HAS_PROCESSOR_CRC
    if (strcmp(name, "processor") == 0 && __builtin_cpu_supports("sse4.2"))
        return crc_by_processor;
    if (strcmp(name, "folding") == 0 && __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("vpclmulqdq"))
        return crc_by_folding;
#endif
    return NULL;
}

/* The fastest first. */
static const char *const WAYS[] = {"folding", "processor", "table", "none"};

/* Make checksums so from now on; gives back how they were made. For tests and measurements. */
static PyObject *use_checksum(PyObject *module, PyObject *name)
{
    const char *wanted = PyUnicode_AsUTF8(name), *before = NULL;
    if (wanted == NULL)
        return NULL;
    crc_function way = way_called(wanted);
    if (way == NULL) {
        PyErr_Format(PyExc_ValueError, "%R is no way to make checksums here", name);
        return NULL;
    }
    for (size_t each = 0; each < sizeof(WAYS) / sizeof(*WAYS); each++)
        if (way_called(WAYS[each]) == crc_way)
            before = WAYS[each];
    crc_way = way;
    return PyUnicode_FromString(before);
}

static PyObject *py_crc32c(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    Py_buffer data;
    unsigned long start = 0;

    if (count < 1 || count > 2) {
        PyErr_SetString(PyExc_TypeError, "crc32c takes the data, and the checksum of what was before it");
        return NULL;
    }
    if (count == 2) {
        start = PyLong_AsUnsignedLong(args[1]);
        if (start == (unsigned long)-1 && PyErr_Occurred())
            return NULL;
    }
    if (PyObject_GetBuffer(args[0], &data, PyBUF_SIMPLE) < 0)
        return NULL;
    uint32_t crc = ~crc_way(~(uint32_t)start, data.buf, (size_t)data.len);
    PyBuffer_Release(&data);
    return PyLong_FromUnsignedLong(crc);
}

/* -- a frame -- */

typedef struct {
    PyObject_HEAD
    unsigned char kind, status;
    char intact;
    unsigned short flags;
    unsigned long long id, offset, length;
    PyObject *epoch, *data;
} Frame;

static PyTypeObject Frame_Type;

static PyObject *frame_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"kind",  "status", "flags", "id",     "offset", "length",
                            "epoch", "data",   "intact", NULL};
    unsigned char kind, status;
    unsigned short flags;
    unsigned long long id, offset, length;
    PyObject *epoch, *data;
    int intact;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "bbHKKKSOp:Frame", names, &kind, &status, &flags, &id, &offset,
                                     &length, &epoch, &data, &intact))
        return NULL;
    Frame *frame = (Frame *)type->tp_alloc(type, 0);
    if (frame == NULL)
        return NULL;
    frame->kind = kind;
    frame->status = status;
    frame->flags = flags;
    frame->id = id;
    frame->offset = offset;
    frame->length = length;
    frame->intact = (char)intact;
    frame->epoch = Py_NewRef(epoch);
    frame->data = Py_NewRef(data);
    return (PyObject *)frame;
}

static void frame_dealloc(Frame *frame)
{
    Py_XDECREF(frame->epoch);
    Py_XDECREF(frame->data);
    PyObject_Free(frame);
}

static PyObject *frame_repr(Frame *frame)
{
    return PyUnicode_FromFormat("Frame(kind=%d, status=%d, flags=%d, id=%llu, offset=%llu, length=%llu, epoch=%R, "
                                "data=%R, intact=%s)",
                                frame->kind, frame->status, frame->flags, frame->id, frame->offset, frame->length,
                                frame->epoch, frame->data, frame->intact ? "True" : "False");
}

/* All of it can be read and nothing changed. */
static PyMemberDef frame_members[] = {
    {"kind", T_UBYTE, offsetof(Frame, kind), READONLY, NULL},
    {"status", T_UBYTE, offsetof(Frame, status), READONLY, NULL},
    {"flags", T_USHORT, offsetof(Frame, flags), READONLY, NULL},
    {"id", T_ULONGLONG, offsetof(Frame, id), READONLY, NULL},
    {"offset", T_ULONGLONG, offsetof(Frame, offset), READONLY, NULL},
    {"length", T_ULONGLONG, offsetof(Frame, length), READONLY, NULL},
    {"epoch", T_OBJECT_EX, offsetof(Frame, epoch), READONLY, NULL},
    {"data", T_OBJECT_EX, offsetof(Frame, data), READONLY, NULL},
    {"intact", T_BOOL, offsetof(Frame, intact), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyTypeObject Frame_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "dst.native._frames.Frame",
    .tp_doc = "One message; see dst.native.plain_frames.Frame.",
    .tp_basicsize = sizeof(Frame),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = frame_new,
    .tp_dealloc = (destructor)frame_dealloc,
    .tp_repr = (reprfunc)frame_repr,
    .tp_members = frame_members,
};

/* -- bytes to frames -- */

static PyObject *part_of(PyObject *whole, Py_ssize_t begin, Py_ssize_t end)
{
    PyObject *part = NULL, *first = PyLong_FromSsize_t(begin), *last = PyLong_FromSsize_t(end);
    if (first != NULL && last != NULL) {
        PyObject *slice = PySlice_New(first, last, NULL);
        if (slice != NULL) {
            part = PyObject_GetItem(whole, slice);
            Py_DECREF(slice);
        }
    }
    Py_XDECREF(first);
    Py_XDECREF(last);
    return part;
}

/* What the frames of one piece have in common. */
typedef struct {
    PyObject *piece, *whole, *epoch, *nothing;
    int checked;
} Cutting;

/* The frame whose header is at HEADER, which is good, and whose data is all there, from BEGIN on in the piece. */
static PyObject *frame_at(Cutting *cutting, const unsigned char *header, Py_ssize_t begin, uint32_t data_bytes)
{
    Frame *frame = PyObject_New(Frame, &Frame_Type);
    if (frame == NULL)
        return NULL;
    frame->epoch = frame->data = NULL;
    frame->kind = header[4];
    frame->status = header[5];
    frame->flags = (unsigned short)(header[6] | header[7] << 8);
    frame->id = load64(header + 8);
    frame->offset = load64(header + 16);
    frame->length = load64(header + 24);
    frame->intact = 1;
    /* They all come under one claim, as a rule. */
    if (cutting->epoch == NULL || memcmp(PyBytes_AS_STRING(cutting->epoch), header + 32, EPOCH_BYTES) != 0) {
        PyObject *epoch = PyBytes_FromStringAndSize((const char *)header + 32, EPOCH_BYTES);
        if (epoch == NULL)
            goto failed;
        Py_XSETREF(cutting->epoch, epoch);
    }
    frame->epoch = Py_NewRef(cutting->epoch);
    if (data_bytes == 0) {
        frame->data = Py_NewRef(cutting->nothing);
        return (PyObject *)frame;
    }
    if (cutting->whole == NULL && (cutting->whole = PyMemoryView_FromObject(cutting->piece)) == NULL)
        goto failed;
    frame->data = part_of(cutting->whole, begin, begin + (Py_ssize_t)data_bytes);
    if (frame->data == NULL)
        goto failed;
    if (cutting->checked)
        frame->intact = crc32c_of(header + HEADER_BYTES, data_bytes) == load32(header + 52);
    return (PyObject *)frame;
failed:
    Py_DECREF(frame);
    return NULL;
}

static PyObject *cut(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    Cutting cutting = {NULL, NULL, NULL, NULL, 0};
    PyObject *frames = NULL, *result = NULL;
    Py_buffer view;

    if (count != 4) {
        PyErr_SetString(PyExc_TypeError, "cut takes piece, position, data_bytes_max and checksums");
        return NULL;
    }
    Py_ssize_t position = PyLong_AsSsize_t(args[1]);
    if (position == -1 && PyErr_Occurred())
        return NULL;
    unsigned long long data_bytes_max = PyLong_AsUnsignedLongLong(args[2]);
    if (data_bytes_max == (unsigned long long)-1 && PyErr_Occurred())
        return NULL;
    if ((cutting.checked = PyObject_IsTrue(args[3])) < 0)
        return NULL;
    cutting.piece = args[0];
    if (PyObject_GetBuffer(args[0], &view, PyBUF_SIMPLE) < 0)
        return NULL;
    if (position < 0 || position > view.len || view.itemsize != 1) {
        PyErr_SetString(PyExc_ValueError, "the position is not inside of the piece, or that is not of bytes");
        goto done;
    }
    if ((frames = PyList_New(0)) == NULL || (cutting.nothing = PyBytes_FromStringAndSize(NULL, 0)) == NULL)
        goto done;
    while (view.len - position >= HEADER_BYTES) {
        const unsigned char *header = (const unsigned char *)view.buf + position;
        if (memcmp(header, MAGIC, sizeof(MAGIC)) != 0 ||
            crc32c_of(header, CHECKED_BYTES) != load32(header + CHECKED_BYTES))
            break;
        uint32_t data_bytes = load32(header + 48);
        Py_ssize_t there = view.len - position - HEADER_BYTES;
        if (data_bytes > data_bytes_max || (uint64_t)data_bytes > (uint64_t)there)
            break;
        PyObject *frame = frame_at(&cutting, header, position + HEADER_BYTES, data_bytes);
        if (frame == NULL)
            goto done;
        int failed = PyList_Append(frames, frame);
        Py_DECREF(frame);
        if (failed < 0)
            goto done;
        position += HEADER_BYTES + (Py_ssize_t)data_bytes;
    }
    result = Py_BuildValue("(On)", frames, position);
done:
    PyBuffer_Release(&view);
    Py_XDECREF(frames);
    Py_XDECREF(cutting.whole);
    Py_XDECREF(cutting.epoch);
    Py_XDECREF(cutting.nothing);
    return result;
}

/* -- frames to bytes -- */

enum { FLAGS, EPOCH, DATA, CHECKSUM, DATA_CRC, STATUS, KEYWORDS };

static PyObject *keyword_names[KEYWORDS]; /* interned */

/* Which of the keywords NAME is, or -1 with an error. */
static int keyword_called(PyObject *name)
{
    for (int each = 0; each < KEYWORDS; each++)
        if (name == keyword_names[each])
            return each;
    for (int each = 0; each < KEYWORDS; each++) /* not interned: somebody made it at run time */
        if (PyUnicode_Compare(name, keyword_names[each]) == 0)
            return each;
    if (!PyErr_Occurred())
        PyErr_Format(PyExc_TypeError, "a header has no %R", name);
    return -1;
}

/* VALUE, at most MAX; with an error set if it is not. */
static unsigned long long number(PyObject *value, unsigned long long max, const char *what)
{
    unsigned long long found = PyLong_AsUnsignedLongLong(value);
    if (found == (unsigned long long)-1 && PyErr_Occurred())
        return 0;
    if (found > max)
        PyErr_Format(PyExc_OverflowError, "%s of a frame is %R", what, value);
    return found;
}

static void seal(unsigned char *header)
{
    store32(header + CHECKED_BYTES, crc32c_of(header, CHECKED_BYTES));
}

/* Put into HEADER how much data comes after it, and its checksum; -1 with an error. */
static int describe_data(unsigned char *header, PyObject *data, PyObject *known_crc, int checked)
{
    Py_buffer view;
    uint32_t crc = 0;

    if (PyBytes_CheckExact(data) && PyBytes_GET_SIZE(data) == 0)
        return 0;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
        return -1;
    Py_ssize_t length = view.len;
    if (length > 0 && checked) {
        if (known_crc == NULL || known_crc == Py_None)
            crc = crc32c_of(view.buf, (size_t)length);
        else
            crc = (uint32_t)number(known_crc, 0xFFFFFFFFu, "the checksum");
    }
    PyBuffer_Release(&view);
    if (PyErr_Occurred())
        return -1;
    if ((unsigned long long)length > 0xFFFFFFFFu) {
        PyErr_Format(PyExc_OverflowError, "%zd bytes are too many for one frame", length);
        return -1;
    }
    store32(header + 48, (uint32_t)length);
    store32(header + 52, crc);
    return 0;
}

/*
 * The arguments of a header: NUMBERS of them by their places (operation, id, offset, length) and the rest by keyword.
 */
static PyObject *make_header(PyObject *const *args, Py_ssize_t count, PyObject *names, Py_ssize_t numbers, int answer)
{
    unsigned char header[HEADER_BYTES] = {0};
    PyObject *given[KEYWORDS] = {NULL};
    int checked = 1;

    if (count < 2 || count > numbers) {
        PyErr_Format(PyExc_TypeError, "a header takes 2 to %zd numbers, and keywords", numbers);
        return NULL;
    }
    for (Py_ssize_t each = 0; names != NULL && each < PyTuple_GET_SIZE(names); each++) {
        int which = keyword_called(PyTuple_GET_ITEM(names, each));
        if (which < 0)
            return NULL;
        if (which == EPOCH && answer) {
            PyErr_SetString(PyExc_TypeError, "an answer has no epoch");
            return NULL;
        }
        given[which] = args[count + each];
    }
    if (given[CHECKSUM] != NULL && (checked = PyObject_IsTrue(given[CHECKSUM])) < 0)
        return NULL;
    memcpy(header, MAGIC, sizeof(MAGIC));
    header[4] = (unsigned char)(number(args[0], answer ? ANSWER - 1 : 255, "the operation") | (answer ? ANSWER : 0));
    store64(header + 8, number(args[1], UINT64_MAX, "the id"));
    if (count > 2)
        store64(header + 16, number(args[2], UINT64_MAX, "the offset"));
    if (count > 3)
        store64(header + 24, number(args[3], UINT64_MAX, "the length"));
    if (given[STATUS] != NULL)
        header[5] = (unsigned char)number(given[STATUS], 255, "the status");
    if (given[FLAGS] != NULL)
        store16(header + 6, (uint16_t)number(given[FLAGS], 0xFFFF, "the flags"));
    if (PyErr_Occurred())
        return NULL;
    if (given[EPOCH] != NULL) {
        if (!PyBytes_Check(given[EPOCH]) || PyBytes_GET_SIZE(given[EPOCH]) != EPOCH_BYTES) {
            PyErr_Format(PyExc_ValueError, "an epoch has %d bytes, not %R", EPOCH_BYTES, given[EPOCH]);
            return NULL;
        }
        memcpy(header + 32, PyBytes_AS_STRING(given[EPOCH]), EPOCH_BYTES);
    }
    if (given[DATA] != NULL && describe_data(header, given[DATA], given[DATA_CRC], checked) < 0)
        return NULL;
    seal(header);
    return PyBytes_FromStringAndSize((const char *)header, HEADER_BYTES);
}

static PyObject *request_header(PyObject *module, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    return make_header(args, count, names, 4, 0);
}

static PyObject *answer_header(PyObject *module, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    return make_header(args, count, names, 2, 1);
}

static PyObject *done_answers(PyObject *module, PyObject *frames)
{
    if (!PyList_Check(frames)) {
        PyErr_SetString(PyExc_TypeError, "done_answers takes a list of frames");
        return NULL;
    }
    Py_ssize_t count = PyList_GET_SIZE(frames);
    if (count > PY_SSIZE_T_MAX / HEADER_BYTES)
        return PyErr_NoMemory();
    PyObject *answers = PyBytes_FromStringAndSize(NULL, count * HEADER_BYTES);
    if (answers == NULL)
        return NULL;
    unsigned char *header = (unsigned char *)PyBytes_AS_STRING(answers);
    memset(header, 0, (size_t)count * HEADER_BYTES);
    for (Py_ssize_t each = 0; each < count; each++, header += HEADER_BYTES) {
        PyObject *item = PyList_GET_ITEM(frames, each);
        if (!Py_IS_TYPE(item, &Frame_Type)) {
            Py_DECREF(answers);
            PyErr_SetString(PyExc_TypeError, "done_answers takes a list of frames");
            return NULL;
        }
        Frame *frame = (Frame *)item;
        memcpy(header, MAGIC, sizeof(MAGIC));
        header[4] = frame->kind | ANSWER;
        store64(header + 8, frame->id);
        seal(header);
    }
    return answers;
}

/* -- the module -- */

static PyMethodDef functions[] = {
    {"answer_header", (PyCFunction)(void (*)(void))answer_header, METH_FASTCALL | METH_KEYWORDS, NULL},
    {"crc32c", (PyCFunction)(void (*)(void))py_crc32c, METH_FASTCALL, NULL},
    {"cut", (PyCFunction)(void (*)(void))cut, METH_FASTCALL, NULL},
    {"done_answers", done_answers, METH_O, NULL},
    {"request_header", (PyCFunction)(void (*)(void))request_header, METH_FASTCALL | METH_KEYWORDS, NULL},
    {"use_checksum", use_checksum, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "dst.native._frames",
    .m_doc = "The compiled equal of dst.native.plain_frames.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__frames(void)
{
    static const char *const names[KEYWORDS] = {"flags", "epoch", "data", "checksum", "data_crc", "status"};

    make_tables();
    for (int each = 0; (crc_way = way_called(WAYS[each])) == NULL; each++)
        ; /* tables are always a way */
    for (int each = 0; each < KEYWORDS; each++)
        if ((keyword_names[each] = PyUnicode_InternFromString(names[each])) == NULL)
            return NULL;
    if (PyType_Ready(&Frame_Type) < 0)
        return NULL;
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL && PyModule_AddObjectRef(module, "Frame", (PyObject *)&Frame_Type) < 0)
        Py_CLEAR(module);
    return module;
}
