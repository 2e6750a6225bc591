/* Whom to trust, what to show, and which ways of sealing to agree to. */
#include "tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <string.h>

/* Those that Python's ssl agrees to: forward secrecy, no SHA-1. Those of TLS 1.3 are OpenSSL's. */
static const char CIPHERS[] =
    "@SECLEVEL=2:ECDH+AESGCM:ECDH+CHACHA20:ECDH+AES:DHE+AES:!aNULL:!eNULL:!aDSS:!SHA1:!AESCCM";

/* Without one OpenSSL would ask the terminal. */
static int password(char *into, int size, int writing, void *secret)
{
    (void)writing;
    size_t length = secret == NULL ? 0 : strlen(secret);
    if (size < 0 || length > (size_t)size)
        return -1;
    memcpy(into, secret == NULL ? "" : secret, length);
    return (int)length;
}

static bool show(SSL_CTX *context, const struct tls_files *files)
{
    SSL_CTX_set_default_passwd_cb(context, password);
    SSL_CTX_set_default_passwd_cb_userdata(context, (void *)files->password);
    const char *key = files->key == NULL ? files->certificate : files->key;
    bool shown = SSL_CTX_use_certificate_chain_file(context, files->certificate) == 1
                 && SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) == 1
                 && SSL_CTX_check_private_key(context) == 1;
    SSL_CTX_set_default_passwd_cb_userdata(context, NULL);
    return shown;
}

static bool set_up(SSL_CTX *context, const struct tls_files *files, unsigned long flags)
{
    static const unsigned char protocols[] = "\x08http/1.1";
    SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    /* A read goes on over what is no body, such as tickets, until the socket has nothing more for this turn: else
     * it would say that it waits for the socket while there is something that was taken from it. */
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
                                  | SSL_MODE_RELEASE_BUFFERS | SSL_MODE_AUTO_RETRY);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    return SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1
           && SSL_CTX_set_cipher_list(context, CIPHERS) == 1
           && X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(context), flags) == 1
           /* This one says 0 where it succeeds. */
           && SSL_CTX_set_alpn_protos(context, protocols, sizeof protocols - 1) == 0
           && SSL_CTX_load_verify_locations(context, files->authorities, NULL) == 1
           && (files->certificate == NULL || show(context, files));
}

SSL_CTX *tls_context(const struct tls_files *files, unsigned long flags, char *reason)
{
    ERR_clear_error();
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (context != NULL && set_up(context, files, flags))
        return context;
    const char *said = ERR_reason_error_string(ERR_peek_error());
    snprintf(reason, TLS_REASON, "%s", said == NULL ? "OpenSSL does not say why" : said);
    ERR_clear_error();
    SSL_CTX_free(context);
    return NULL;
}
