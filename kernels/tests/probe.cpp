// A ggml backend module with two cards in name only: their memory is the program's and the processor computes for them.
// Enough to be loaded, listed, chosen and given a model. All of ggml that it calls is the program's own, so that it
// loads only where the program offers ggml's functions. Flags make one that does not fit: see tests/backends.rs.
// Never here: arithmetic.
#include "ggml-backend-impl.h"

#ifndef API_VERSION
#define API_VERSION GGML_BACKEND_API_VERSION
#endif
#ifdef STAMP
extern "C" const char hone_ggml[];
const char hone_ggml[] = STAMP;
#endif
#ifdef LOST
extern "C" void ggml_hone_never_had_this(void);
#endif

static ggml_backend_device cards[2];
static ggml_backend_buffer_type memories[2];

static int index_of(ggml_backend_dev_t card) { return card == cards ? 0 : 1; }
static ggml_backend_dev_t processor() { return ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU); }

static const char * name(ggml_backend_dev_t card) { return index_of(card) == 0 ? "PROBE0" : "PROBE1"; }
static const char * description(ggml_backend_dev_t) { return "a card in name only"; }
static enum ggml_backend_dev_type type(ggml_backend_dev_t) { return GGML_BACKEND_DEVICE_TYPE_GPU; }

static void memory(ggml_backend_dev_t card, size_t * free, size_t * total) {
    *free = (index_of(card) == 0 ? size_t(3) : size_t(7)) << 30;
    *total = size_t(8) << 30;
}

static void props(ggml_backend_dev_t card, struct ggml_backend_dev_props * props) {
    *props = {};
    props->name = name(card);
    props->description = description(card);
    props->type = type(card);
    memory(card, &props->memory_free, &props->memory_total);
}

static ggml_backend_t init(ggml_backend_dev_t card, const char * parameters) {
    ggml_backend_t backend = ggml_backend_dev_init(processor(), parameters);
    backend->device = card;
    return backend;
}

static ggml_backend_buffer_type_t buffer_type(ggml_backend_dev_t card) { return &memories[index_of(card)]; }
static const char * memory_name(ggml_backend_buffer_type_t type) { return name(type->device); }
#ifdef FULL
static ggml_backend_buffer_t none(ggml_backend_buffer_type_t, size_t) { return nullptr; }
#endif

static bool supports_op(ggml_backend_dev_t, const struct ggml_tensor * op) {
    return ggml_backend_dev_supports_op(processor(), op);
}
static bool supports_memory(ggml_backend_dev_t, ggml_backend_buffer_type_t type) {
    return ggml_backend_buft_is_host(type);
}

static const char * reg_name(ggml_backend_reg_t) { return "PROBE"; }
static size_t count(ggml_backend_reg_t) { return 2; }
static ggml_backend_dev_t get(ggml_backend_reg_t, size_t index) { return &cards[index]; }
// So that llama.cpp can say how many threads compute: more than there are cores wait for each other.
static void * function(ggml_backend_reg_t, const char * name) {
    return ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(processor()), name);
}

static ggml_backend_reg_t reg() {
    static ggml_backend_reg reg = { API_VERSION, { reg_name, count, get, function }, nullptr };
#ifdef LOST
    ggml_hone_never_had_this();
#endif
    for (int index = 0; index < 2; index++) {
        auto & card = cards[index];
        card.iface.get_name = name;
        card.iface.get_description = description;
        card.iface.get_memory = memory;
        card.iface.get_type = type;
        card.iface.get_props = props;
        card.iface.init_backend = init;
        card.iface.get_buffer_type = buffer_type;
        card.iface.supports_op = supports_op;
        card.iface.supports_buft = supports_memory;
        card.reg = &reg;
        memories[index] = *ggml_backend_dev_buffer_type(processor());
        memories[index].device = &card;
        memories[index].iface.get_name = memory_name;
#ifdef FULL
        memories[index].iface.alloc_buffer = none;
#endif
    }
    return &reg;
}

GGML_BACKEND_DL_IMPL(reg)
