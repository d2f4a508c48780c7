"""The words by which people say that a telephone number or a password follows."""

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
