import gzip
import json
import os
from itertools import islice
from pathlib import Path

import polars as pl
import pytest

from tracemill.corpus import languages
from tracemill.errors import InputError

# ruff: noqa: RUF001

DATA = Path(os.environ.get("TRACEMILL_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")

SENTENCES = {
    "en": [
        "The train to the coast leaves at half past seven every morning.",
        "Could you tell me how to reset the password of my account?",
        "We baked two loaves of bread and gave one to the neighbours.",
        "This function returns the number of rows that were written.",
        "My grandmother kept bees behind the old stone house.",
    ],
    "de": [
        "Der Zug an die Küste fährt jeden Morgen um halb acht ab.",
        "Können Sie mir sagen, wie ich mein Passwort zurücksetze?",
        "Wir haben zwei Brote gebacken und eines den Nachbarn geschenkt.",
        "Diese Funktion gibt die Anzahl der geschriebenen Zeilen zurück.",
        "Meine Großmutter hielt Bienen hinter dem alten Steinhaus.",
    ],
    "fr": [
        "Le train pour la côte part tous les matins à sept heures et demie.",
        "Pouvez-vous me dire comment réinitialiser mon mot de passe ?",
        "Nous avons cuit deux pains et donné l'un d'eux aux voisins.",
        "Cette fonction renvoie le nombre de lignes écrites.",
        "Ma grand-mère élevait des abeilles derrière la vieille maison.",
    ],
    "es": [
        "El tren a la costa sale todas las mañanas a las siete y media.",
        "¿Puede decirme cómo restablecer la contraseña de mi cuenta?",
        "Horneamos dos panes y le dimos uno a los vecinos.",
        "Esta función devuelve el número de filas que se escribieron.",
        "Mi abuela criaba abejas detrás de la vieja casa de piedra.",
    ],
    "it": [
        "Il treno per la costa parte ogni mattina alle sette e mezza.",
        "Può dirmi come reimpostare la password del mio account?",
        "Abbiamo cotto due pagnotte e ne abbiamo data una ai vicini.",
        "Questa funzione restituisce il numero di righe scritte.",
        "Mia nonna allevava le api dietro la vecchia casa di pietra.",
    ],
    "pt": [
        "O comboio para a costa parte todas as manhãs às sete e meia.",
        "Pode dizer-me como redefinir a senha da minha conta?",
        "Assámos dois pães e demos um deles aos vizinhos.",
        "Esta função devolve o número de linhas que foram escritas.",
        "A minha avó criava abelhas atrás da velha casa de pedra.",
    ],
    "nl": [
        "De trein naar de kust vertrekt elke ochtend om half acht.",
        "Kunt u mij vertellen hoe ik mijn wachtwoord opnieuw instel?",
        "We hebben twee broden gebakken en er een aan de buren gegeven.",
        "Deze functie geeft het aantal geschreven regels terug.",
        "Mijn grootmoeder hield bijen achter het oude stenen huis.",
    ],
    "sv": [
        "Tåget till kusten går varje morgon klockan halv åtta.",
        "Kan du berätta hur jag återställer lösenordet till mitt konto?",
        "Vi bakade två bröd och gav det ena till grannarna.",
        "Den här funktionen returnerar antalet rader som skrevs.",
        "Min mormor hade bin bakom det gamla stenhuset.",
    ],
    "da": [
        "Toget til kysten kører hver morgen klokken halv otte.",
        "Kan du fortælle mig, hvordan jeg nulstiller min adgangskode?",
        "Vi bagte to brød og gav det ene til naboerne.",
        "Denne funktion returnerer antallet af rækker, der blev skrevet.",
        "Min bedstemor holdt bier bag det gamle stenhus.",
    ],
    "fi": [
        "Juna rannikolle lähtee joka aamu puoli kahdeksalta.",
        "Voisitko kertoa, miten vaihdan tilini salasanan?",
        "Leivoimme kaksi leipää ja annoimme toisen naapureille.",
        "Tämä funktio palauttaa kirjoitettujen rivien määrän.",
        "Isoäitini piti mehiläisiä vanhan kivitalon takana.",
    ],
    "pl": [
        "Pociąg na wybrzeże odjeżdża codziennie rano o wpół do ósmej.",
        "Czy możesz mi powiedzieć, jak zresetować hasło do konta?",
        "Upiekliśmy dwa chleby i jeden daliśmy sąsiadom.",
        "Ta funkcja zwraca liczbę zapisanych wierszy.",
        "Moja babcia trzymała pszczoły za starym kamiennym domem.",
    ],
    "cs": [
        "Vlak na pobřeží odjíždí každé ráno v půl osmé.",
        "Můžete mi říct, jak obnovím heslo ke svému účtu?",
        "Upekli jsme dva chleby a jeden jsme dali sousedům.",
        "Tato funkce vrací počet zapsaných řádků.",
        "Moje babička chovala včely za starým kamenným domem.",
    ],
    "hu": [
        "A tengerpartra induló vonat minden reggel fél nyolckor megy.",
        "Meg tudná mondani, hogyan állíthatom vissza a jelszavamat?",
        "Két kenyeret sütöttünk, és az egyiket a szomszédoknak adtuk.",
        "Ez a függvény a kiírt sorok számát adja vissza.",
        "A nagymamám méheket tartott a régi kőház mögött.",
    ],
    "ro": [
        "Trenul spre coastă pleacă în fiecare dimineață la șapte și jumătate.",
        "Îmi puteți spune cum să resetez parola contului meu?",
        "Am copt două pâini și i-am dat una vecinilor.",
        "Această funcție întoarce numărul de rânduri scrise.",
        "Bunica mea creștea albine în spatele casei vechi de piatră.",
    ],
    "tr": [
        "Sahile giden tren her sabah yedi buçukta kalkıyor.",
        "Hesabımın parolasını nasıl sıfırlayacağımı söyler misiniz?",
        "İki ekmek pişirdik ve birini komşulara verdik.",
        "Bu işlev yazılan satırların sayısını döndürür.",
        "Büyükannem eski taş evin arkasında arı beslerdi.",
    ],
    "ru": [
        "Поезд на побережье отправляется каждое утро в половине восьмого.",
        "Не могли бы вы сказать, как сбросить пароль от моей учётной записи?",
        "Мы испекли два хлеба и один отдали соседям.",
        "Эта функция возвращает количество записанных строк.",
        "Моя бабушка держала пчёл за старым каменным домом.",
    ],
    "uk": [
        "Потяг до узбережжя вирушає щоранку о пів на восьму.",
        "Чи не могли б ви сказати, як скинути пароль мого облікового запису?",
        "Ми спекли дві хлібини й одну віддали сусідам.",
        "Ця функція повертає кількість записаних рядків.",
        "Моя бабуся тримала бджіл за старим кам'яним будинком.",
    ],
    "el": [
        "Το τρένο για την ακτή φεύγει κάθε πρωί στις επτάμισι.",
        "Μπορείτε να μου πείτε πώς αλλάζω τον κωδικό μου;",
        "Ψήσαμε δύο ψωμιά και δώσαμε το ένα στους γείτονες.",
        "Αυτή η συνάρτηση επιστρέφει το πλήθος των γραμμών.",
        "Η γιαγιά μου είχε μέλισσες πίσω από το παλιό πέτρινο σπίτι.",
    ],
    "ar": [
        "ينطلق القطار إلى الساحل كل صباح في السابعة والنصف.",
        "هل يمكنك أن تخبرني كيف أعيد ضبط كلمة المرور؟",
        "خبزنا رغيفين وأعطينا أحدهما للجيران.",
        "تعيد هذه الدالة عدد الصفوف التي كتبت.",
        "كانت جدتي تربي النحل خلف البيت الحجري القديم.",
    ],
    "he": [
        "הרכבת לחוף יוצאת כל בוקר בשבע וחצי.",
        "תוכל לומר לי איך לאפס את הסיסמה של החשבון שלי?",
        "אפינו שתי כיכרות לחם ונתנו אחת לשכנים.",
        "הפונקציה הזאת מחזירה את מספר השורות שנכתבו.",
        "סבתא שלי גידלה דבורים מאחורי בית האבן הישן.",
    ],
    "hi": [
        "तट की ओर जाने वाली रेलगाड़ी हर सुबह साढ़े सात बजे चलती है।",
        "क्या आप बता सकते हैं कि मैं अपना पासवर्ड कैसे बदलूँ?",
        "हमने दो रोटियाँ बनाईं और एक पड़ोसियों को दे दी।",
        "यह फलन लिखी गई पंक्तियों की संख्या लौटाता है।",
        "मेरी दादी पुराने पत्थर के घर के पीछे मधुमक्खियाँ पालती थीं।",
    ],
    "zh": [
        "开往海边的火车每天早上七点半出发,一共要走三个小时才能到达终点站。",
        "请问您能告诉我怎样重新设置我的账户密码吗?我昨天已经试过两次了。",
        "我们烤了两个面包,把其中一个送给了住在隔壁的邻居一家人。",
        "这个函数返回已经写入文件的行数,如果没有写入则返回零。",
        "我的奶奶在那座古老的石头房子后面养了很多年的蜜蜂。",
    ],
    "ja": [
        "海岸行きの列車は毎朝七時半に駅を出発します。",
        "アカウントのパスワードを再設定する方法を教えてください。",
        "私たちはパンを二つ焼いて、一つを隣の人にあげました。",
        "この関数は書き込まれた行の数を返します。",
        "祖母は古い石造りの家の裏で蜜蜂を飼っていました。",
    ],
    "ko": [
        "바닷가로 가는 기차는 매일 아침 일곱 시 반에 출발합니다.",
        "제 계정의 비밀번호를 다시 설정하는 방법을 알려 주시겠어요?",
        "우리는 빵 두 덩이를 구워 하나를 이웃에게 주었습니다.",
        "이 함수는 기록된 행의 개수를 돌려줍니다.",
        "할머니는 오래된 돌집 뒤에서 벌을 키우셨습니다.",
    ],
}


@pytest.mark.parametrize("language", SENTENCES)
def test_a_sentence_is_known_by_its_language(language: str):
    found = languages.identify(pl.Series(SENTENCES[language]))
    assert found.to_list() == [language] * 5


@pytest.mark.parametrize(
    "text",
    [None, "", "Yes.", "Goodbye, sir.", "12 + 30 = 42", "https://example.org/a/b", "lo-lo " * 2],
)
def test_of_little_text_nothing_is_said(text: str | None):
    assert languages.identify(pl.Series([text], dtype=pl.String)).to_list() == [None]


def test_code_and_addresses_do_not_count():
    code = "```python\nimport os\nfor name in os.listdir():\n    print(name)\n```\n"
    said = "Dieses Programm schreibt die Namen aller Dateien im Ordner."
    found = languages.identify(pl.Series([code + said, said + " https://example.org/the/of/and"]))
    assert found.to_list() == ["de", "de"]


def test_no_text_gives_no_language():
    assert languages.identify(pl.Series([], dtype=pl.String)).to_list() == []


def test_an_unknown_code_is_told():
    languages.check(["en", "de"])
    with pytest.raises(InputError, match="languages: eng is not known; write ISO 639-1 codes: af"):
        languages.check(["en", "eng"])
    assert {len(code) for code in languages.known()} == {2}


@pytest.mark.skipif(not (DATA / "gsm8k").is_dir(), reason=f"no questions in {DATA / 'gsm8k'}")
def test_english_questions_are_english():
    with gzip.open(DATA / "gsm8k" / "records.jsonl.gz", "rt") as lines:
        rows = [json.loads(line)["question"] for line in islice(lines, 300)]
    assert set(languages.identify(pl.Series(rows))) == {"en"}
