"""The words by which it is said that a telephone number, a password or a key follows."""

SAID_PHONE = (
    *("telephone", "telefon", "telefoon", "telefono", "telefone", "teléfono", "téléphone", "tel"),
    *("tél", "tlf", "telefax", "telepon", "telemóvel", "telephon", "fax", "phone", "mobile"),
    *("mobil", "mobiel", "móvil", "movil", "mob", "cell", "cellulare", "cellphone", "celular"),
    *("handy", "handynummer", "rufnummer", "whatsapp", "portable", "numero", "nummer", "gsm"),
    *("puh", "fone", "caller", "callee", "msisdn", "тел", "телефон", "τηλ", "τηλέφωνο"),
    *("电话", "電話", "手机", "手機", "携帯", "전화", "연락처", "โทร", "फोन", "फ़ोन", "नंबर"),
    *("điện thoại", "هاتف", "جوال", "טלפון"),
)
SAID_PASSWORD = (
    *("passwords", "password", "passwort", "passwd", "pwd", "passphrase", "kennwort", "contraseña"),
    *("mot de passe", "senha", "wachtwoord", "hasło", "lösenord", "пароль", "密码", "密碼"),
    *("パスワード", "비밀번호", "heslo", "jelszó", "parola", "şifre", "_pass", "dbpass"),
)
PASSWORD_ROOTS = (
    *("pass", "pwd", "kennwort", "contrase", "senha", "wachtwoord", "hasło", "lösenord", "пароль"),
    *("密码", "密碼", "パスワード", "비밀번호", "heslo", "jelszó", "parola", "şifre"),
)
NAMED_KEY = (
    r"api[_-]?key|access[_-]?key|secret|token|private[_-]?key|auth[_-]?key|credential|accountkey"
    r"|account[_-]key|signing[_-]?key|encryption[_-]?key|master[_-]?key|service[_-]?key"
)
KEY_NEEDLES = (
    "apikey api_key api-key accesskey access_key access-key secret token privatekey private_key "
    "private-key authkey auth_key auth-key credential accountkey account_key account-key "
    "signingkey signing_key signing-key encryptionkey encryption_key encryption-key masterkey "
    "master_key master-key servicekey service_key service-key"
)
KEY_ROOTS = ("key", "secret", "token", "credential")
